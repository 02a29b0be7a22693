//! A token server as registries know them: who is who, and who may do what. Its
//! tokens are signed by a key whose certificate the registry trusts.
//! <https://distribution.github.io/distribution/spec/auth/token/>

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::SystemTime;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use clap::Args;
use serde_json::{Value, json};

use crate::http::{self, Answer, Request};

/// How long a registry takes a token after its end, as clocks differ.
const LEEWAY: i64 = 60;

/// For how long it takes a token otherwise.
const LONG: i64 = 300;

/// Who gets tokens, and how long they hold.
#[derive(Args, Debug)]
pub struct Tokens {
    #[arg(long)]
    port: u16,
    /// The file with a line for each token: for whom, and for what
    #[arg(long)]
    log: PathBuf,
    /// An RSA key, as openssl writes it
    #[arg(long)]
    key: PathBuf,
    /// The certificate of that key, in DER
    #[arg(long)]
    certificate: PathBuf,
    /// NAME:PASSWORD of the one who may push; everybody may pull
    #[arg(long)]
    user: String,
    /// For how long the registry takes a token that anybody may have
    #[arg(long, default_value_t = LONG)]
    seconds: i64,
    /// Give out identity tokens, by which one gets tokens without a password
    #[arg(long)]
    identity: bool,
}

impl Tokens {
    /// # Errors
    /// Fails where the port is taken, or the log cannot be made.
    pub fn run(self) -> Result<()> {
        let log = fs::File::create(&self.log).context("create the log")?;
        let log = Mutex::new(log);
        http::serve(self.port, move |request: &Request, to: &mut TcpStream| {
            let answer = self.answer(request, &log);
            answer
                .unwrap_or_else(|_| Answer::new(500))
                .send(request, to)
        })
    }

    fn answer(&self, request: &Request, log: &Mutex<fs::File>) -> Result<Answer> {
        let fields = fields(request);
        let field = |wanted: &str| {
            let found = fields.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let Some(name) = self.who(request, field("refresh_token")) else {
            return Ok(Answer::new(401));
        };
        let scopes: Vec<&str> = fields
            .iter()
            .filter(|(name, _)| name == "scope")
            .flat_map(|(_, value)| value.split_whitespace())
            .collect();
        if let Ok(mut log) = log.lock() {
            let name = if name.is_empty() { "-" } else { name };
            writeln!(log, "{} {name} {}", request.method, scopes.join(" "))?;
        }
        let seconds = if name.is_empty() { self.seconds } else { LONG };
        let token = self.token(name, field("service"), &scopes, seconds)?;
        let mut said = json!({"token": token, "access_token": token, "expires_in": seconds});
        if self.identity && !name.is_empty() && field("offline_token") == "true" {
            said["refresh_token"] = json!(self.identity_token());
        }
        let mut answer = Answer::new(200).with("Content-Type", &"application/json");
        answer.body = said.to_string().into();
        Ok(answer)
    }

    fn identity_token(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(format!("identity of {}", self.user))
    }

    /// The name of whoever asks, which is empty for anybody, or none who lies.
    fn who(&self, request: &Request, refresh_token: &str) -> Option<&str> {
        let name = self.user.split(':').next();
        let basic = format!("Basic {}", BASE64_STANDARD.encode(&self.user));
        match request.header("authorization") {
            Some(credential) => name.filter(|_| credential == basic),
            None if refresh_token.is_empty() => Some(""),
            None => name.filter(|_| self.identity && refresh_token == self.identity_token()),
        }
    }

    fn token(&self, name: &str, service: &str, scopes: &[&str], seconds: i64) -> Result<String> {
        let der = fs::read(&self.certificate).context("read the certificate")?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let now = i64::try_from(now.as_secs())?;
        let access: Vec<Value> = scopes
            .iter()
            .filter_map(|scope| {
                let (kind, rest) = scope.split_once(':')?;
                let (path, actions) = rest.rsplit_once(':')?;
                let may = |action: &&str| *action == "pull" || !name.is_empty();
                let actions: Vec<&str> = actions.split(',').filter(may).collect();
                Some(json!({"type": kind, "name": path, "actions": actions}))
            })
            .collect();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [BASE64_STANDARD.encode(&der)]});
        let claims = json!({"iss": "tests", "sub": name, "aud": service, "access": access,
            "iat": now, "nbf": now - 300, "exp": now + seconds - LEEWAY, "jti": "one"});
        let encoded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encoded(&header), encoded(&claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.sign(text.as_bytes())?);
        Ok(format!("{text}.{signature}"))
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>> {
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(&self.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("run openssl")?;
        openssl.stdin.take().context("no pipe")?.write_all(text)?;
        Ok(openssl.wait_with_output()?.stdout)
    }
}

/// The fields of a form, or of a query.
fn fields(request: &Request) -> Vec<(String, String)> {
    let body = String::from_utf8_lossy(&request.body);
    let form = match &*request.method {
        "POST" => &*body,
        _ => &request.query,
    };
    let fields = form.split('&').filter_map(|field| field.split_once('='));
    let decode = |(name, value): (&str, &str)| (name.to_owned(), decoded(value));
    fields.map(decode).collect()
}

/// What a form or a query means: `%3A` is a colon, and `+` a blank.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                let hex = str::from_utf8(&hex).ok();
                hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())
                    .unwrap_or(b'%')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
