//! The README.md of a starter.

use crate::tasks::Task;

/// The page that a student reads first.
pub fn of(step: u8, tasks: &[Task]) -> String {
    let mut table = String::new();
    for task in tasks {
        let Task {
            id,
            function,
            file,
            title,
            section,
        } = task;
        let file = file.display();
        table += &format!("| {id} | {title} | `{function}` | [{file}]({file}) | {section} |\n");
    }
    let bin = format!("step{step:02}");
    let first = tasks
        .first()
        .map_or(String::new(), |task| task.id.to_string());
    let before = match step {
        1 => String::new(),
        _ => " The steps before it are solved, as in the book.".to_owned(),
    };
    let story = match step {
        1 => String::new(),
        _ => format!(
            "cargo lab diff {} {step}         how the story grew in this step\n",
            step - 1
        ),
    };
    format!(
        "\
# minidocker, lab {step}

In this workspace step {step} is not finished: the functions below have no
body yet.{before} Read chapter {step} of the book (`cargo lab book --open`), then
write them, best in this order.

| task | what to build | function | file | book |
|------|---------------|----------|------|------|
{table}
## How to work

Such a function consists of one line, `todo!(\"task {first}: …\")`. Whoever comes
to it ends with \"not yet implemented: task {first}\". Put code of your own in its
place; keep the function's name, its parameters and what it returns, for others
call it. The comment above a function says what it is for, and the functions
around it are there to be used.

```
cargo build
cargo run -p {bin} -- run sh           the program as far as it goes
cargo test -p {bin}                    the unit tests of this step

cargo lab status                        what is done, and what is not yet
cargo lab check                         run all checks
cargo lab check --only {first}            run the checks of one task
cargo lab hint {first}                    a hint; with --more, a longer one
{story}cargo lab vm                            a machine to break, with this step in it
```

The checks look at your program from outside. They need no root, and leave
nothing behind. Each says what it ran, what it expected and what it saw.

In these functions `tracing::info!(call = \"…\", \"why\")` would feed `--explain`.
You may leave it out: no check asks for it.

`cargo lab` is the tool of the repository that made this workspace, which
`.cargo/config.toml` names. If the repository moves, change the path there.
"
    )
}
