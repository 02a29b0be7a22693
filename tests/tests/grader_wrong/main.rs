//! The grader is graded.

mod compile;
mod wrong;

use compile::Steps;
use wrong::{ANYWHERE, IN_RUST, WITH_CONTROLLERS};

#[test]
fn all_compile() {
    for wrong in ANYWHERE.iter().chain(WITH_CONTROLLERS) {
        compile::wrong_c(wrong);
    }
}
#[test]
fn all_build() {
    let steps = Steps::copied();
    for (file, wrong) in IN_RUST {
        let start = std::time::Instant::now();
        steps.build(file, wrong);
        println!("{} {:?}", wrong.name, start.elapsed());
    }
}
