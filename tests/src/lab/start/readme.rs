//! The README.md of a starter.

use crate::tasks::Task;

/// The page that a student reads first.
pub fn of(step: u8, tasks: &[Task]) -> String {
    let first = tasks
        .first()
        .map_or(String::new(), |task| task.id.to_string());
    let before = match step {
        1 => "",
        _ => "The steps before it are solved, as in the book.\n",
    };
    let (table, commands) = (table(tasks), commands(step, &first));
    format!(
        "\
# minidocker, lab {step}

In this workspace step {step} is not finished: the functions below have no body yet.
{before}Read chapter {step} of the book (`cargo lab book --open`), then write them. The
program ends at the first one that it comes to, and names it: with that one you
cannot be wrong.

{table}
## How to work

Such a function consists of one line, `todo!(\"task {first}: …\")`, which ends
the program with \"not yet implemented: task {first}\". Put code of your own in
its place. Keep the function's name, its parameters and what it returns, for
others call it. The comment above a function says what it is for, and the
functions around it are there to be used.

```
{commands}```

The checks look at your program from outside. They need no root and leave
nothing behind. Each says what it ran, what it expected and what it saw.

In these functions `tracing::info!(call = \"…\", \"why\")` would feed
`--explain`. You may leave it out: no check asks for it.

`cargo lab` is the tool of the repository that made this workspace, which
`.cargo/config.toml` names. If the repository moves, change the path there.
"
    )
}

fn table(tasks: &[Task]) -> String {
    let mut table = String::from(
        "| task | what to build | function | file | book |\n\
         |------|---------------|----------|------|------|\n",
    );
    for task in tasks {
        let file = task.file.display();
        table += &format!(
            "| {} | {} | `{}` | [{file}]({file}) | {} |\n",
            task.id, task.title, task.function, task.section
        );
    }
    table
}

fn commands(step: u8, first: &str) -> String {
    let mut commands = vec![
        (
            format!("cargo run -p step{step:02} -- run sh"),
            "the program, as far as it goes",
        ),
        (
            format!("cargo test -p step{step:02}"),
            "the unit tests of this step",
        ),
        (
            "cargo lab status".to_owned(),
            "what is done, and what is not yet",
        ),
        (
            "cargo lab check".to_owned(),
            "the checks of this step and those before it",
        ),
        (
            format!("cargo lab check --only {first}"),
            "the checks of one task",
        ),
        (
            format!("cargo lab hint {first}"),
            "a hint; with --more, a longer one",
        ),
    ];
    if step > 1 {
        commands.push((
            format!("cargo lab diff {} {step}", step - 1),
            "what this step adds to the story",
        ));
    }
    let line = |(command, what): (String, &str)| format!("{command:<32}{what}\n");
    commands.into_iter().map(line).collect()
}
