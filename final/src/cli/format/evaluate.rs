//! Go's templates: what comes out where one is filled in.

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use super::functions::{self, Mode, is_true, shown};
use super::parse::{Branch, By, Command, Node, Operand, Pipeline, Template, Term};

/// How a list of nodes was left.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl Template {
    /// Fills it in with one object, and with the fields of `unsaid` where it has none of that name.
    ///
    /// # Errors
    /// A field that neither of them has, a function's wrong argument.
    pub(crate) fn execute(&self, data: &Value, unsaid: &Value) -> Result<String> {
        self.evaluate(data, unsaid, Mode::Row)
    }

    /// Fills it in with the names of columns, which the functions leave alone.
    ///
    /// # Errors
    /// As [`Template::execute`].
    pub(super) fn header(&self, names: &Value) -> Result<String> {
        self.evaluate(names, &Value::Null, Mode::Header)
    }

    fn evaluate(&self, data: &Value, unsaid: &Value, mode: Mode) -> Result<String> {
        let mut evaluation = Evaluation {
            source: &self.source,
            unsaid,
            mode,
            // `$` is the whole object.
            variables: vec![("", data.clone())],
            out: String::new(),
        };
        evaluation
            .nodes(&self.nodes, data)
            .map_err(|error| anyhow!("template parsing error: {error}"))?;
        Ok(evaluation.out)
    }
}

struct Evaluation<'t> {
    source: &'t str,
    /// Fields that every object has.
    unsaid: &'t Value,
    mode: Mode,
    variables: Vec<(&'t str, Value)>,
    out: String,
}

impl<'t> Evaluation<'t> {
    fn nodes(&mut self, nodes: &'t [Node], dot: &Value) -> Result<Flow> {
        let known = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        self.out.push_str(&shown(&value));
                    }
                }
                Node::Branch(branch) => flow = self.branch(branch, dot)?,
                Node::Break => flow = Flow::Break,
                Node::Continue => flow = Flow::Continue,
            }
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(flow)
    }

    fn branch(&mut self, branch: &'t Branch, dot: &Value) -> Result<Flow> {
        let known = self.variables.len();
        let value = self.pipeline(&branch.pipeline, dot)?;
        let flow = match branch.by {
            By::Range => self.range(branch, &value, dot),
            _ if !is_true(&value) => self.nodes(&branch.otherwise, dot),
            By::If => self.nodes(&branch.body, dot),
            By::With => self.nodes(&branch.body, &value),
        };
        self.variables.truncate(known);
        flow
    }

    fn range(&mut self, branch: &'t Branch, value: &Value, dot: &Value) -> Result<Flow> {
        let Some(items) = items(value) else {
            let place = branch.pipeline.commands.first().map(|it| it.place);
            let what = format!("range can't iterate over {}", shown(value));
            return Err(self.error(place.unwrap_or_default(), &what));
        };
        let mut items = items.peekable();
        if items.peek().is_none() {
            return self.nodes(&branch.otherwise, dot);
        }
        let known = self.variables.len();
        for (key, item) in items {
            match branch.pipeline.variables.as_slice() {
                [] => {}
                [one] => self.set(one, item.clone(), branch.pipeline.assigns),
                [first, second, ..] => {
                    self.set(first, key, branch.pipeline.assigns);
                    self.set(second, item.clone(), branch.pipeline.assigns);
                }
            }
            let flow = self.nodes(&branch.body, &item)?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, name: &'t str, value: Value, assigns: bool) {
        let known = self
            .variables
            .iter_mut()
            .rev()
            .find(|known| known.0 == name);
        match known {
            Some(known) if assigns => known.1 = value,
            _ => self.variables.push((name, value)),
        }
    }

    fn pipeline(&mut self, pipeline: &'t Pipeline, dot: &Value) -> Result<Value> {
        let mut piped = None;
        for command in &pipeline.commands {
            piped = Some(self.command(command, dot, piped)?);
        }
        let value = piped.unwrap_or_default();
        // A range declares its variables anew for each item.
        if let [only] = pipeline.variables.as_slice() {
            self.set(only, value.clone(), pipeline.assigns);
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &'t Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value> {
        let Some((first, rest)) = command.operands.split_first() else {
            bail!("missing value for command");
        };
        let Term::Function(name) = &first.term else {
            if let (Some((at, method)), [argument], None) = (first.fields.last(), rest, &piped)
                && method == "Label"
            {
                let key = self.operand(argument, dot)?;
                return self
                    .label(first, &key, dot)
                    .map_err(|error| self.error((*at, first.place.1), &format!("{error:#}")));
            }
            return match (&first.term, rest, piped) {
                (Term::Nil, [], None) => Err(self.error(first.place, "nil is not a command")),
                (_, [], None) => self.operand(first, dot),
                _ => Err(self.error(
                    first.place,
                    &format!(
                        "can't give argument to non-function {}",
                        self.text(first.place)
                    ),
                )),
            };
        };
        let mut arguments = Vec::new();
        for operand in rest {
            let argument = self.operand(operand, dot)?;
            // What decides ends it: what comes behind need not even be there.
            let decided = match name.as_str() {
                "and" => !is_true(&argument),
                "or" => is_true(&argument),
                _ => false,
            };
            arguments.push(argument);
            if decided {
                break;
            }
        }
        arguments.extend(piped);
        functions::call(name, &arguments, self.mode)
            .map_err(|error| self.error(command.place, &format!("{error:#}")))
    }

    fn operand(&mut self, operand: &'t Operand, dot: &Value) -> Result<Value> {
        let mut value = match &operand.term {
            Term::Dot => dot.clone(),
            Term::Nil => Value::Null,
            Term::Constant(value) => value.clone(),
            Term::Variable(name) => {
                let mut known = self.variables.iter().rev();
                let known = known.find(|known| known.0 == name);
                known.map(|known| known.1.clone()).unwrap_or_default()
            }
            Term::Function(name) => functions::call(name, &[], self.mode)
                .map_err(|error| self.error(operand.place, &format!("{error:#}")))?,
            Term::Parenthesis(pipeline) => self.pipeline(pipeline, dot)?,
        };
        for (at, name) in &operand.fields {
            value = self.field(&value, name).map_err(|error| {
                let (text, what) = (self.text(operand.place), format!("{error:#}"));
                self.error_at(*at, text, &what)
            })?;
        }
        Ok(value)
    }

    /// The one method of docker's objects that takes an argument. Above a column stands the last
    /// part of the label's key.
    fn label(&mut self, method: &'t Operand, key: &Value, dot: &Value) -> Result<Value> {
        if self.mode == Mode::Header {
            let key = key.as_str().unwrap_or_default();
            let last = key.rsplit('.').next().unwrap_or_default();
            return Ok(last.replace(['-', '_'], " ").into());
        }
        let labels = self.operand(method, dot)?;
        functions::call("index", &[labels, key.clone()], self.mode)
    }

    fn text(&self, place: (usize, usize)) -> &'t str {
        self.source.get(place.0..place.1).unwrap_or_default()
    }

    fn error(&self, place: (usize, usize), what: &str) -> anyhow::Error {
        self.error_at(place.0, self.text(place), what)
    }

    fn error_at(&self, at: usize, text: &str, what: &str) -> anyhow::Error {
        let before = self.source.get(..at).unwrap_or_default();
        let line = super::lex::line(self.source, at);
        let column = before.rsplit('\n').next().unwrap_or_default().len();
        anyhow!("template: :{line}:{column}: executing \"\" at <{text}>: {what}")
    }

    fn field(&self, value: &Value, name: &str) -> Result<Value> {
        match value {
            Value::Object(map) => {
                // Docker's own name of the field is ID, and in JSON it is Id.
                let id = || map.get("Id").filter(|_| name == "ID");
                let found = map.get(name).or_else(id).or_else(|| self.unsaid.get(name));
                found
                    .cloned()
                    .with_context(|| format!("map has no entry for key {name:?}"))
            }
            Value::Null => Ok(Value::Null),
            other => bail!(
                "can't evaluate field {name} in type {}",
                functions::kind(other)
            ),
        }
    }
}

/// What there is to go over: a list with its positions, a map in the order of its keys, numbers.
fn items(value: &Value) -> Option<Box<dyn Iterator<Item = (Value, Value)> + '_>> {
    Some(match value {
        Value::Null => Box::new(std::iter::empty()),
        Value::Array(items) => {
            let numbered = items.iter().cloned().enumerate();
            Box::new(numbered.map(|(n, item)| (n.into(), item)))
        }
        Value::Object(map) => {
            let mut items: Vec<_> = map.iter().collect();
            items.sort_by_key(|(key, _)| *key);
            let items = items.into_iter();
            Box::new(items.map(|(key, item)| (key.as_str().into(), item.clone())))
        }
        other => {
            let numbers = 0..other.as_u64()?;
            Box::new(numbers.map(|n| (n.into(), n.into())))
        }
    })
}
