//! The life of a container: seen from inside, from outside, and afterwards.

use harness::engine::{Machine, Wanted, Who};

#[test]
fn a_machine_for_the_engine_has_its_images_from_the_start() {
    let debian = !harness::in_the_vm();
    for who in Who::ALL {
        let machine = Machine::with(Wanted {
            who,
            debian,
            ..Wanted::default()
        });
        let images = machine.ok("images --format {{.Repository}}");
        assert_eq!(images, if debian { "host\ndebian" } else { "host" });
        machine.nothing_left();
    }
}
