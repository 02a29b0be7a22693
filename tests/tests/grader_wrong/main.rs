//! The grader is graded.

mod compile;
mod wrong;

use wrong::{ANYWHERE, WITH_CONTROLLERS};

#[test]
fn all_compile() {
    let dir = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let source = compile::source();
    for wrong in ANYWHERE.iter().chain(WITH_CONTROLLERS) {
        let source = compile::edited(&source, wrong.name, wrong.edits);
        compile::compile(&dir, wrong.name, wrong.step, &source, compile::LENIENT);
    }
}
