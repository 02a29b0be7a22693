//! `history`

use anyhow::Result;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use jiff::Timestamp;
use minidocker::engine::images::{Images, Step};
use serde_json::{Value, json};

use crate::Context;
use crate::format::{Form, List};
use crate::time::{ago, rfc3339};

/// Show how an image was made, the last step first
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker history --no-trunc alpine")]
pub(crate) struct History {
    /// A name or an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Print sizes and times for people; false prints bytes and times in full
    #[arg(
        short = 'H',
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
        action = ArgAction::Set
    )]
    human: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    form: Form,
}

const HUMAN: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const EXACT: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const HEADERS: [(&str, &str); 6] = [
    ("Comment", "COMMENT"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("CreatedSince", "CREATED"),
    ("ID", "IMAGE"),
    ("Size", "SIZE"),
];

/// What stands for the images between the layers, of which nobody knows.
const MISSING: &str = "<missing>";

/// A command is no longer, unless nothing is to be shortened.
const LONGEST_COMMAND: usize = 45;

impl History {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let images = Images::open(&context.dirs)?;
        let image = images.find(&self.image)?;
        let mut id = match self.no_trunc {
            true => image.id().to_string(),
            false => image.short_id(),
        };
        let mut rows = Vec::new();
        for step in images.history(&self.image)? {
            // Only the last step has led to an image that there is.
            rows.push(self.row(&id, &step, Timestamp::now()));
            MISSING.clone_into(&mut id);
        }
        let list = List {
            columns: if self.human { HUMAN } else { EXACT },
            headers: &HEADERS,
            rows,
            ..List::default()
        };
        self.form.say(&list, "{{.ID}}")?;
        Ok(0)
    }

    fn row(&self, id: &str, step: &Step, now: Timestamp) -> Value {
        let at = step.created.map(|then| rfc3339(then, 0));
        let at = at.unwrap_or_else(|| "N/A".to_owned());
        let since = step
            .created
            .filter(|_| self.human)
            .map(|then| ago(then, now));
        let most = match self.no_trunc || step.created_by.chars().count() <= LONGEST_COMMAND {
            true => usize::MAX,
            false => LONGEST_COMMAND - 1,
        };
        json!({
            "Comment": cli::printable(&step.comment, usize::MAX),
            "CreatedAt": at,
            "CreatedBy": cli::printable(&step.created_by, most),
            "CreatedSince": since.unwrap_or_else(|| at.clone()),
            "ID": id,
            "Size": match self.human {
                true => cli::size(step.size, 3),
                false => step.size.to_string(),
            },
        })
    }
}
