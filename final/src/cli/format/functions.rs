//! Go's templates: their functions, those of the language and those that docker adds.

use std::cmp::Ordering;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::printf::printf;

/// What a template is filled in with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Row,
    /// The names of columns, which stay as they are.
    Header,
}

/// The functions, with the least and the largest number of their arguments.
const FUNCTIONS: [(&str, usize, usize); 23] = [
    ("and", 1, usize::MAX),
    ("or", 1, usize::MAX),
    ("not", 1, 1),
    ("eq", 2, usize::MAX),
    ("ne", 2, 2),
    ("lt", 2, 2),
    ("le", 2, 2),
    ("gt", 2, 2),
    ("ge", 2, 2),
    ("len", 1, 1),
    ("index", 1, usize::MAX),
    ("slice", 1, 3),
    ("print", 0, usize::MAX),
    ("println", 0, usize::MAX),
    ("printf", 1, usize::MAX),
    ("json", 1, 1),
    ("split", 2, 2),
    ("join", 2, 2),
    ("title", 1, 1),
    ("lower", 1, 1),
    ("upper", 1, 1),
    ("pad", 3, 3),
    ("truncate", 2, 2),
];

pub(super) fn is_known(name: &str) -> bool {
    FUNCTIONS.iter().any(|function| function.0 == name)
}

/// Calls a function.
///
/// # Errors
/// The wrong number or type of arguments, an index out of range.
pub(super) fn call(name: &str, arguments: &[Value], mode: Mode) -> Result<Value> {
    let function = FUNCTIONS.iter().find(|function| function.0 == name);
    let (_, least, most) = function.with_context(|| format!("function {name:?} not defined"))?;
    let got = arguments.len();
    if !(*least..=*most).contains(&got) {
        let at_least = if least == most { "" } else { "at least " };
        bail!("wrong number of args for {name}: want {at_least}{least} got {got}");
    }
    match (name, arguments) {
        ("json" | "title" | "lower" | "upper" | "truncate", [text, ..]) if mode == Mode::Header => {
            Ok(text.clone())
        }
        ("print" | "println" | "printf", _) => Ok(print(name, arguments)?.into()),
        // Which of them decided, the caller found out.
        ("and" | "or", [.., last]) => Ok(last.clone()),
        ("not", [value]) => Ok((!is_true(value)).into()),
        ("eq" | "ne" | "lt" | "le" | "gt" | "ge", [first, others @ ..]) => {
            compare(name, first, others).with_context(|| format!("error calling {name}"))
        }
        ("index", [value, keys @ ..]) => keys
            .iter()
            .try_fold(value.clone(), |value, key| index(&value, key))
            .context("error calling index"),
        ("slice", [value, ends @ ..]) => slice(value, ends).context("error calling slice"),
        ("len", [value]) => length(value).map(Value::from).context("error calling len"),
        ("json", [value]) => Ok(serde_json::to_string(value)?.into()),
        ("join", [list, between]) => {
            let items: Vec<String> = match list {
                Value::Null => Vec::new(),
                Value::Array(items) => items.iter().map(shown).collect(),
                other => bail!("expected []string; found {}", shown(other)),
            };
            Ok(items.join(text(between)?).into())
        }
        ("split", [value, between]) => match text(between)? {
            "" => Ok(text(value)?.chars().map(String::from).collect()),
            between => Ok(text(value)?.split(between).collect()),
        },
        ("pad", [value, before, after]) => {
            let value = text(value)?;
            let blanks = |count: &Value| Ok::<_, anyhow::Error>(" ".repeat(number(count)?));
            match value {
                "" => Ok(value.into()),
                _ => Ok(format!("{}{value}{}", blanks(before)?, blanks(after)?).into()),
            }
        }
        ("truncate", [value, most]) => {
            let most = number(most)?;
            Ok(text(value)?.chars().take(most).collect::<String>().into())
        }
        ("lower", [value]) => Ok(text(value)?.to_lowercase().into()),
        ("upper", [value]) => Ok(text(value)?.to_uppercase().into()),
        ("title", [value]) => Ok(title(text(value)?).into()),
        _ => bail!("function {name:?} not defined"),
    }
}

fn text(value: &Value) -> Result<&str> {
    value
        .as_str()
        .with_context(|| format!("expected string; found {}", shown(value)))
}

/// A number of characters or items, of which nobody needs many.
fn number(value: &Value) -> Result<usize> {
    let number = value
        .as_u64()
        .and_then(|number| usize::try_from(number).ok());
    number
        .filter(|number| *number <= 1 << 16)
        .with_context(|| format!("expected a small integer; found {}", shown(value)))
}

fn print(name: &str, arguments: &[Value]) -> Result<String> {
    if let ("printf", [format, arguments @ ..]) = (name, arguments) {
        return Ok(printf(text(format)?, arguments));
    }
    let mut out = String::new();
    for (n, value) in arguments.iter().enumerate() {
        let before = n.checked_sub(1).and_then(|before| arguments.get(before));
        // print sets a blank between two of which neither is a string.
        let apart = before.is_some_and(|before| !before.is_string() && !value.is_string());
        if n > 0 && (apart || name == "println") {
            out.push(' ');
        }
        out.push_str(&match value {
            Value::Null => nested(value),
            other => shown(other),
        });
    }
    if name == "println" {
        out.push('\n');
    }
    Ok(out)
}

fn compare(name: &str, first: &Value, others: &[Value]) -> Result<Value> {
    let orderings = others.iter().map(|other| ordering(first, other));
    let orderings = orderings.collect::<Result<Vec<_>>>()?;
    let any = |wanted: &[Ordering]| orderings.iter().any(|found| wanted.contains(found));
    let (less, same, more) = (Ordering::Less, Ordering::Equal, Ordering::Greater);
    Ok(Value::from(match name {
        "eq" => any(&[same]),
        "ne" => any(&[less, more]),
        "lt" => any(&[less]),
        "le" => any(&[less, same]),
        "gt" => any(&[more]),
        _ => any(&[more, same]),
    }))
}

fn ordering(one: &Value, other: &Value) -> Result<Ordering> {
    let ordering = match (one, other) {
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Null, _) | (_, Value::Null) => Some(Ordering::Less),
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64().partial_cmp(&other.as_f64()),
        },
        _ => None,
    };
    ordering.context("incompatible types for comparison")
}

/// An item of a list, of a map, or a string's byte. What a map does not have is
/// empty, as it is with docker's maps of strings (labels, above all).
fn index(value: &Value, key: &Value) -> Result<Value> {
    match value {
        Value::Object(map) => Ok(map.get(text(key)?).cloned().unwrap_or_else(|| "".into())),
        Value::Null if key.is_string() => Ok("".into()),
        Value::Null => bail!("index of untyped nil"),
        _ => {
            let at = number(key)?;
            let item = match value {
                Value::Array(items) => items.get(at).cloned(),
                other => text(other)?.as_bytes().get(at).map(|byte| (*byte).into()),
            };
            item.with_context(|| format!("index out of range: {at}"))
        }
    }
}

fn slice(value: &Value, ends: &[Value]) -> Result<Value> {
    let length = length(value)?;
    let start = ends.first().map_or(Ok(0), number)?;
    let end = ends.get(1).map_or(Ok(length), number)?;
    let part = match value {
        Value::Array(items) => items.get(start..end).map(|part| part.to_vec().into()),
        other => text(other)?.get(start..end).map(Value::from),
    };
    part.with_context(|| format!("index out of range: {start}:{end} of {length}"))
}

fn length(value: &Value) -> Result<usize> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(map) => Ok(map.len()),
        // An empty list or map, as Go writes it.
        Value::Null => Ok(0),
        other => bail!("len of type {}", kind(other)),
    }
}

/// Upper-case letters where words begin.
fn title(text: &str) -> String {
    let mut before = ' ';
    let titled = text.chars().flat_map(|char| {
        let begins = !(before.is_alphanumeric() || before == '_');
        before = char;
        let upper = begins.then(|| char.to_uppercase());
        let same = (!begins).then_some(char);
        upper.into_iter().flatten().chain(same)
    });
    titled.collect()
}

/// Whether `if` takes it for true: what is not empty and not zero.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Its type, as Go's errors call it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go prints it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => float.to_string(),
            _ => number.to_string(),
        },
        Value::Bool(value) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(nested).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut items: Vec<_> = map.iter().collect();
            items.sort_by_key(|(key, _)| *key);
            let items = items.into_iter();
            let items: Vec<_> = items
                .map(|(key, item)| format!("{key}:{}", nested(item)))
                .collect();
            format!("map[{}]", items.join(" "))
        }
    }
}

fn nested(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        // What has no fields is most often of a type without any, such as a port.
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        other => shown(other),
    }
}
