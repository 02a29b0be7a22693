//! `events`: what happened, and what happens.

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use minidocker::engine::pruning::Label;
use minidocker::state::journal::{self, Event, Kind, Span};
use serde_json::{Value, json};

use crate::Context;
use crate::filters::{Filter, admit};
use crate::format::{Template, joined};
use crate::time::{moment, rfc3339};

/// Show what happens to containers and images, as it happens
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker events --since 10m --filter event=die")]
pub(crate) struct Events {
    /// Only those that are so: container=NAME, event=ACTION, image=NAME, label=KEY[=VALUE],
    /// network=NAME, scope=local, type=container|image|network|volume, volume=NAME
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// How to print them: json, or a template of Go's
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Begin with what happened since then
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// End with what happens until then
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
}

const KNOWN: [&str; 8] = [
    "container",
    "event",
    "image",
    "label",
    "network",
    "scope",
    "type",
    "volume",
];

impl Events {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let now = Timestamp::now();
        let at = |text: &Option<String>| text.as_deref().map(|text| moment(text, now)).transpose();
        let span = Span {
            since: at(&self.since)?,
            until: at(&self.until)?,
        };
        for filter in &self.filter {
            filter.is_one_of(&KNOWN)?;
        }
        let format = self.format.as_deref().unwrap_or_default();
        let template = match format {
            "" | "json" => None,
            template => Some(Template::parse(template)?),
        };
        journal::read(&context.dirs, span, &mut |event| {
            if !admit(&self.filter, |filter| Ok(is_so(event, filter)))? {
                return Ok(());
            }
            cli::say(&match &template {
                Some(template) => template.execute(&document(event), &plain(event))?,
                None if format == "json" => document(event).to_string(),
                None => line(event),
            })
        })?;
        Ok(0)
    }
}

/// `2024-01-31T10:00:00.000000000Z container start ID (image=alpine, name=quiet_tea)`
fn line(event: &Event) -> String {
    let time = rfc3339(event.time, 9);
    let attributes = joined(&event.attributes, ", ");
    let (kind, action, id) = (event.kind.name(), &event.action, &event.id);
    let line = format!("{time} {kind} {action} {id} ({attributes})");
    cli::printable(&line, usize::MAX)
}

/// An event as docker's interface has it.
fn document(event: &Event) -> Value {
    let mut document = json!({
        "Type": event.kind.name(),
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": event.time.as_second(),
        "timeNano": i64::try_from(event.time.as_nanosecond()).unwrap_or(i64::MAX),
    });
    // Containers and images had these before there was an actor.
    if let (Kind::Container | Kind::Image, Some(fields)) = (event.kind, document.as_object_mut()) {
        fields.insert("status".to_owned(), event.action.as_str().into());
        fields.insert("id".to_owned(), event.id.as_str().into());
        if let Some(image) = event.attributes.get("image") {
            fields.insert("from".to_owned(), image.as_str().into());
        }
    }
    document
}

/// What the fields are called in a template.
fn plain(event: &Event) -> Value {
    let image = event.attributes.get("image").cloned();
    json!({
        "Scope": "local",
        "Time": event.time.as_second(),
        "TimeNano": i64::try_from(event.time.as_nanosecond()).unwrap_or(i64::MAX),
        "Status": event.action,
        "ID": event.id,
        "From": image.unwrap_or_default(),
    })
}

fn is_so(event: &Event, filter: &Filter) -> bool {
    let value = filter.value.as_str();
    let attribute = |key| event.attributes.get(key).map(String::as_str);
    let begins = |text: Option<&str>| text.is_some_and(|text| text.starts_with(value));
    let is_called = || begins(Some(&event.id)) || begins(attribute("name"));
    match filter.name.as_str() {
        "container" => event.kind == Kind::Container && is_called(),
        "network" => event.kind == Kind::Network && is_called(),
        "volume" => event.kind == Kind::Volume && is_called(),
        // `exec_create: ls -l` goes by its first word, too.
        "event" => {
            let action = &event.action;
            action == value || action.split(':').next() == Some(value)
        }
        "image" => {
            let key = if event.kind == Kind::Image {
                "name"
            } else {
                "image"
            };
            let without_tag = |text: &'_ str| match text.rsplit_once(':') {
                Some((before, tag)) if !tag.contains('/') => before == value,
                _ => false,
            };
            let is = |text: &str| text == value || without_tag(text);
            is(&event.id) || attribute(key).is_some_and(is)
        }
        "label" => Label::new(value).is_among(&event.attributes),
        "scope" => value == "local",
        _ => event.kind.name() == value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let mut event = Event::new(Kind::Container, "exec_create: ls -l", "abcdef")
            .with("image", "team/app:v1")
            .with("name", "web")
            .with("tier", "front");
        event.time = "2024-01-31T10:00:00.05Z".parse().unwrap();
        event
    }

    #[test]
    fn an_event_is_a_line_as_dockers() {
        let shown = line(&event());
        let (time, rest) = shown.split_once(' ').unwrap();
        assert!(time.contains(".050000000"), "{time}");
        assert_eq!(
            rest,
            "container exec_create: ls -l abcdef (image=team/app:v1, name=web, tier=front)"
        );
        assert_eq!(
            document(&event())["timeNano"],
            1_706_695_200_050_000_000_i64
        );
        let template =
            Template::parse("{{.Type}} {{.Status}} {{.Actor.Attributes.tier}} {{.Time}}");
        let filled = template
            .unwrap()
            .execute(&document(&event()), &plain(&event()));
        assert_eq!(
            filled.unwrap(),
            "container exec_create: ls -l front 1706695200"
        );
    }

    #[test]
    fn filters_of_one_name_add_up_and_labels_restrict() {
        let admits = |filters: &[&str]| {
            let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
            admit(&filters, |filter| Ok(is_so(&event(), filter))).unwrap()
        };
        for (filters, expected) in [
            (&[][..], true),
            (&["container=web"], true),
            (&["container=abc"], true),
            (&["container=other"], false),
            (&["container=other", "container=web"], true),
            (&["event=exec_create"], true),
            (&["event=start", "event=exec_create"], true),
            (&["event=start"], false),
            (&["image=team/app"], true),
            (&["image=team/app:v1"], true),
            (&["image=team/ap"], false),
            (&["type=image"], false),
            (&["type=container", "scope=local"], true),
            (&["label=tier"], true),
            (&["label=tier=front", "label=name"], true),
            (&["label=tier=front", "label=missing"], false),
            (&["volume=web"], false),
        ] {
            assert_eq!(admits(filters), expected, "{filters:?}");
        }
    }
}
