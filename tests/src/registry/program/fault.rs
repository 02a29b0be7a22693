//! What a hostile registry does wrong.

use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

/// One fault; on the command line `cut=1000`, `drip`.
///
/// Those of a blob strike the largest one of the layout, which so is a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// After so many bytes of each answer with the blob the connection is closed.
    Cut(u64),
    /// Of the blob only so many bytes exist, whatever Content-Length says.
    Short(u64),
    /// After so many bytes of the blob the registry is killed.
    Die(u64),
    /// The blob's last byte is another.
    Garbled,
    /// Content-Length is this, and the whole blob comes nevertheless.
    Length(String),
    /// A Range is not heard of: 200 and the whole blob. Where there was none, the
    /// connection is closed after so many bytes.
    NoRange(u64),
    /// The blob is elsewhere: at this port of 127.0.0.1.
    Redirect(u16),
    /// The blob comes by a byte a second.
    Drip,
    /// 429, with this as Retry-After.
    Busy(String),
    /// 503.
    Unavailable,
    /// Every answer begins with headers that never end.
    EndlessHeaders,
    /// Every answer begins with a header of a megabyte.
    HugeHeader,
    /// Every connection is closed when a request has come.
    HangUp,
    /// A manifest is followed by 100 MB of blanks.
    HugeManifest,
    /// A manifest has one byte more than the one that was asked for.
    OtherManifest,
    /// A manifest comes as this media type.
    ManifestType(String),
}

impl Fault {
    /// Whether it strikes blobs, or everything.
    pub fn is_of_blobs(&self) -> bool {
        use Fault::{Cut, Die, Drip, Garbled, Length, NoRange, Redirect, Short};
        matches!(
            self,
            Cut(_) | Short(_) | Die(_) | Garbled | Length(_) | NoRange(_) | Redirect(_) | Drip
        )
    }

    /// Whether it strikes manifests.
    pub fn is_of_manifests(&self) -> bool {
        use Fault::{HugeManifest, ManifestType, OtherManifest};
        matches!(self, HugeManifest | OtherManifest | ManifestType(_))
    }
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Fault> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let number = || {
            value
                .parse()
                .with_context(|| format!("{name} wants a number"))
        };
        Ok(match name {
            "cut" => Fault::Cut(number()?),
            "short" => Fault::Short(number()?),
            "die" => Fault::Die(number()?),
            "garbled" => Fault::Garbled,
            "length" => Fault::Length(value.to_owned()),
            "no-range" => Fault::NoRange(number()?),
            "redirect" => Fault::Redirect(number()?.try_into()?),
            "drip" => Fault::Drip,
            "busy" => Fault::Busy(value.to_owned()),
            "unavailable" => Fault::Unavailable,
            "endless-headers" => Fault::EndlessHeaders,
            "huge-header" => Fault::HugeHeader,
            "hang-up" => Fault::HangUp,
            "huge-manifest" => Fault::HugeManifest,
            "other-manifest" => Fault::OtherManifest,
            "manifest-type" => Fault::ManifestType(value.to_owned()),
            other => bail!("there is no fault {other:?}"),
        })
    }
}
