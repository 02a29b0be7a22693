//! Go's templates (text/template), as far as `--format` uses them: their grammar.

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

use super::functions;
use super::lex::{Kind, Token, lex, line};

/// A template that can be filled in.
#[derive(Debug)]
pub(crate) struct Template {
    pub(super) source: String,
    pub(super) nodes: Vec<Node>,
}

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    Branch(Branch),
    Break,
    Continue,
}

/// `if`, `with` and `range`, which all have an `else`.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) by: By,
    pub(super) pipeline: Pipeline,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    If,
    With,
    Range,
}

/// `$x := .A | upper | printf "%s"`
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) variables: Vec<String>,
    /// `=` and not `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// A value, or a function and its arguments.
#[derive(Debug)]
pub(super) struct Command {
    /// Where it stands in the template, for errors.
    pub(super) place: (usize, usize),
    pub(super) operands: Vec<Operand>,
}

/// A value, and the fields on the way into it.
#[derive(Debug)]
pub(super) struct Operand {
    pub(super) place: (usize, usize),
    pub(super) term: Term,
    /// Each with the place of its dot.
    pub(super) fields: Vec<(usize, String)>,
}

#[derive(Debug)]
pub(super) enum Term {
    Dot,
    Nil,
    Constant(Value),
    Variable(String),
    Function(String),
    Parenthesis(Pipeline),
}

const DEEPEST: usize = 100;

/// What a list of nodes ended with.
enum Stop {
    Eof,
    End,
    Else,
    /// `else if` and `else with`; what follows is still to be read.
    ElseBranch(By),
}

impl Template {
    /// # Errors
    /// What is wrong with it, as docker words it.
    pub(crate) fn parse(source: &str) -> Result<Template> {
        let nodes = || {
            let mut parser = Parser {
                source,
                tokens: lex(source)?,
                next: 0,
                variables: Vec::new(),
                loops: 0,
                depth: 0,
            };
            parser.template()
        };
        let nodes = nodes().map_err(|error| anyhow!("template parsing error: {error}"))?;
        Ok(Template {
            source: source.to_owned(),
            nodes,
        })
    }
}

struct Parser<'s> {
    source: &'s str,
    tokens: Vec<Token>,
    next: usize,
    /// Those that are known here.
    variables: Vec<String>,
    /// In how many `range` this is.
    loops: usize,
    /// In how many branches and parentheses.
    depth: usize,
}

impl Parser<'_> {
    fn template(&mut self) -> Result<Vec<Node>> {
        let parsed = self.list().and_then(|(nodes, stop)| match stop {
            Stop::Eof => Ok(nodes),
            Stop::End => bail!("unexpected {{{{end}}}}"),
            Stop::Else | Stop::ElseBranch(_) => bail!("unexpected {{{{else}}}}"),
        });
        parsed.map_err(|error| {
            let last = self.tokens.get(self.next.saturating_sub(1));
            let line = line(self.source, last.map_or(0, |token| token.at));
            anyhow!("template: :{line}: {error}")
        })
    }

    fn list(&mut self) -> Result<(Vec<Node>, Stop)> {
        let mut nodes = Vec::new();
        while let Some(token) = self.tokens.get(self.next) {
            if let Kind::Text(text) = &token.kind {
                nodes.push(Node::Text(text.clone()));
                self.next += 1;
                continue;
            }
            self.expect(&Kind::Open)?;
            let word = self.word().unwrap_or_default();
            match word.as_str() {
                "end" => {
                    self.next += 1;
                    self.expect(&Kind::Close)?;
                    return Ok((nodes, Stop::End));
                }
                "else" => {
                    self.next += 1;
                    return Ok((nodes, self.otherwise()?));
                }
                "break" | "continue" => {
                    self.next += 1;
                    self.expect(&Kind::Close)?;
                    if self.loops == 0 {
                        bail!("{{{{{word}}}}} outside {{{{range}}}}");
                    }
                    nodes.push(match word.as_str() {
                        "break" => Node::Break,
                        _ => Node::Continue,
                    });
                }
                "define" | "template" | "block" => {
                    bail!("{{{{{word}}}}} is not supported here")
                }
                _ => match branch(&word) {
                    Some(by) => {
                        self.next += 1;
                        nodes.push(Node::Branch(self.branch(by)?));
                    }
                    None => {
                        nodes.push(Node::Print(self.pipeline("command")?));
                        self.expect(&Kind::Close)?;
                    }
                },
            }
        }
        Ok((nodes, Stop::Eof))
    }

    /// What comes behind `else`.
    fn otherwise(&mut self) -> Result<Stop> {
        match self.word().as_deref().and_then(branch) {
            Some(by) if by != By::Range => {
                self.next += 1;
                Ok(Stop::ElseBranch(by))
            }
            _ => {
                self.expect(&Kind::Close)?;
                Ok(Stop::Else)
            }
        }
    }

    fn branch(&mut self, by: By) -> Result<Branch> {
        // What is declared in a branch is known in it only.
        let known = self.variables.len();
        let name = match by {
            By::If => "if",
            By::With => "with",
            By::Range => "range",
        };
        let pipeline = self.pipeline(name)?;
        self.expect(&Kind::Close)?;
        let inside = usize::from(by == By::Range);
        self.loops += inside;
        self.depth += 1;
        let (body, stop) = self.list()?;
        self.loops -= inside;
        let otherwise = match stop {
            Stop::End => Vec::new(),
            Stop::ElseBranch(by) => vec![Node::Branch(self.branch(by)?)],
            Stop::Else => match self.list()? {
                (nodes, Stop::End) => nodes,
                (_, Stop::Eof) => bail!("unexpected EOF"),
                _ => bail!("expected end; found {{{{else}}}}"),
            },
            Stop::Eof => bail!("unexpected EOF"),
        };
        self.depth -= 1;
        self.variables.truncate(known);
        Ok(Branch {
            by,
            pipeline,
            body,
            otherwise,
        })
    }

    /// Every branch and every parenthesis has one, so here their depth is bounded:
    /// the stack is.
    fn pipeline(&mut self, context: &str) -> Result<Pipeline> {
        if self.depth > DEEPEST {
            bail!("more than {DEEPEST} branches or parentheses within each other");
        }
        let (variables, assigns) = self.declaration(context)?;
        let mut commands = Vec::new();
        loop {
            let command = self.command()?;
            let first = command.operands.first();
            let stage = commands.len() + 1;
            match first.map(|operand| &operand.term) {
                None => bail!("missing value for {context}"),
                Some(Term::Constant(_) | Term::Nil | Term::Dot)
                    if stage > 1 && first.is_some_and(|it| it.fields.is_empty()) =>
                {
                    bail!("non executable command in pipeline stage {stage}")
                }
                Some(_) => commands.push(command),
            }
            if !self.comes(&Kind::Pipe) {
                break;
            }
        }
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline {
            variables,
            assigns,
            commands,
        })
    }

    /// `$x :=`, `$x =` or, for range, `$i, $x :=` at the beginning.
    fn declaration(&mut self, context: &str) -> Result<(Vec<String>, bool)> {
        let start = self.next;
        let mut variables = Vec::new();
        while let Some(Kind::Variable(name)) = self.kind() {
            variables.push(name.clone());
            self.next += 1;
            if self.comes(&Kind::Comma) {
                continue;
            }
            let assigns = self.kind() == Some(&Kind::Assign);
            if assigns || self.kind() == Some(&Kind::Declare) {
                self.next += 1;
                if variables.len() > if context == "range" { 2 } else { 1 } {
                    bail!("too many declarations in {context}");
                }
                return Ok((variables, assigns));
            }
            break;
        }
        self.next = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self) -> Result<Command> {
        let start = self.place().0;
        let mut operands: Vec<Operand> = Vec::new();
        loop {
            match self.kind() {
                Some(Kind::Close | Kind::RightParen | Kind::Pipe) => break,
                None => bail!("unclosed action"),
                Some(_) => operands.push(self.operand()?),
            }
        }
        let end = operands.last().map_or(start, |operand| operand.place.1);
        Ok(Command {
            place: (start, end),
            operands,
        })
    }

    fn operand(&mut self) -> Result<Operand> {
        let (start, mut end) = self.place();
        let Some(token) = self.tokens.get(self.next) else {
            bail!("unclosed action");
        };
        let mut fields = Vec::new();
        let term = match &token.kind {
            Kind::Field(name) => {
                fields.push((start, name.clone()));
                Term::Dot
            }
            Kind::Dot => Term::Dot,
            Kind::Constant(value) => Term::Constant(value.clone()),
            Kind::Variable(name) if name.is_empty() || self.variables.contains(name) => {
                Term::Variable(name.clone())
            }
            Kind::Variable(name) => bail!("undefined variable \"${name}\""),
            Kind::Word(word) => match word.as_str() {
                "true" => Term::Constant(true.into()),
                "false" => Term::Constant(false.into()),
                "nil" => Term::Nil,
                function if functions::is_known(function) => Term::Function(word.clone()),
                _ => bail!("function {word:?} not defined"),
            },
            Kind::LeftParen => {
                self.next += 1;
                self.depth += 1;
                let pipeline = self.pipeline("parenthesized pipeline")?;
                self.depth -= 1;
                if self.kind() != Some(&Kind::RightParen) {
                    bail!("unclosed left paren");
                }
                end = self.place().1;
                Term::Parenthesis(pipeline)
            }
            _ => bail!("unexpected {:?} in operand", self.text(start, end)),
        };
        self.next += 1;
        // Only what follows without a blank leads into this value.
        while let Some(Token {
            kind: Kind::Field(name),
            at,
            end: behind,
            spaced: false,
        }) = self.tokens.get(self.next)
        {
            fields.push((*at, name.clone()));
            end = *behind;
            self.next += 1;
        }
        Ok(Operand {
            place: (start, end),
            term,
            fields,
        })
    }

    fn kind(&self) -> Option<&Kind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn word(&self) -> Option<String> {
        match self.kind() {
            Some(Kind::Word(word)) => Some(word.clone()),
            _ => None,
        }
    }

    fn place(&self) -> (usize, usize) {
        let end = self.source.len();
        let token = self.tokens.get(self.next);
        token.map_or((end, end), |token| (token.at, token.end))
    }

    fn text(&self, start: usize, end: usize) -> &str {
        self.source.get(start..end).unwrap_or_default()
    }

    /// Goes on behind the next word if it is this one.
    fn comes(&mut self, kind: &Kind) -> bool {
        let comes = self.kind() == Some(kind);
        self.next += usize::from(comes);
        comes
    }

    fn expect(&mut self, kind: &Kind) -> Result<()> {
        if self.comes(kind) {
            return Ok(());
        }
        let (start, end) = self.place();
        match self.text(start, end) {
            "" => bail!("unclosed action"),
            found => bail!("unexpected {found:?} in command"),
        }
    }
}

fn branch(word: &str) -> Option<By> {
    match word {
        "if" => Some(By::If),
        "with" => Some(By::With),
        "range" => Some(By::Range),
        _ => None,
    }
}
