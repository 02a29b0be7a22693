//! Docker's `config.json`: who the user is at which registry.
//!
//! ```text
//!   {
//!       "auths": {"registry.example": {"auth": "base64 of user:password"}},
//!       "credHelpers": {"cloud.example": "cloud"},    docker-credential-cloud is asked
//!       "credsStore": "secretservice"                 … and this one for all others
//!   }
//! ```
//!
//! The file is docker's, podman's and ours; what we do not know in it stays as it is.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Serializer, Value, json};

use super::auth::{Credentials, Secret};
use super::refusal::printable;

/// What the file calls Docker Hub.
const DOCKER: &str = "https://index.docker.io/v1/";

/// The user's name that stands for an identity token, to a credential helper.
const TOKEN_USER: &str = "<token>";

/// The user's credentials, in docker's file and with docker's helpers.
#[derive(Clone, Debug)]
pub struct Keychain {
    path: PathBuf,
}

impl Keychain {
    /// The keychain in `$DOCKER_CONFIG`, or else in `~/.docker`. Its file may yet be to be made.
    ///
    /// # Errors
    /// Neither `DOCKER_CONFIG` nor `HOME` says where.
    pub fn open() -> Result<Keychain> {
        let chosen = std::env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty());
        let directory = match chosen {
            Some(path) => PathBuf::from(path),
            None => std::env::home_dir()
                .context("neither DOCKER_CONFIG nor HOME says where config.json is; set one")?
                .join(".docker"),
        };
        Ok(Keychain::at(&directory))
    }

    fn at(directory: &Path) -> Keychain {
        Keychain {
            path: directory.join("config.json"),
        }
    }

    /// Who the user is at a registry, as `docker.io` and `localhost:5000`.
    ///
    /// # Errors
    /// The file is damaged, or a helper fails.
    pub fn find(&self, registry: &str) -> Result<Option<Credentials>> {
        let config = self.read()?;
        let server = server(registry);
        if let Some(helper) = helper(&config, registry) {
            return match ask(helper, "get", server)? {
                Some(answer) => from_helper(&answer, helper),
                None => Ok(None),
            };
        }
        let entries = config.get("auths").and_then(Value::as_object);
        let entry = entries.and_then(|entries| entry(entries, registry));
        let read = entry.and_then(|entry| from_entry(entry).transpose());
        read.transpose()
            .with_context(|| format!("the credentials for {server} in {}", self.path.display()))
    }

    /// Keeps who the user is at a registry. The path is that of the file where anybody who can read
    /// it finds the secret; none where a helper has it.
    ///
    /// # Errors
    /// The file cannot be written, or a helper fails.
    pub fn store(&self, registry: &str, credentials: &Credentials) -> Result<Option<&Path>> {
        let mut config = self.read()?;
        let server = server(registry);
        let helped = helper(&config, registry).map(str::to_owned);
        if let Some(helper) = &helped {
            ask(helper, "store", &for_helper(server, credentials))?;
        }
        let entry = object(object(&mut config, "auths")?, server)?;
        for secret in ["auth", "identitytoken", "username", "password"] {
            entry.shift_remove(secret);
        }
        if helped.is_none() {
            fill(entry, credentials);
        }
        self.write(&config)?;
        Ok(helped.is_none().then_some(&self.path))
    }

    /// Forgets who the user is at a registry. False: that was not known.
    ///
    /// # Errors
    /// As for [`store`](Keychain::store).
    pub fn erase(&self, registry: &str) -> Result<bool> {
        let mut config = self.read()?;
        let server = server(registry);
        let helped = match helper(&config, registry) {
            Some(helper) => ask(helper, "erase", server)?.is_some(),
            None => false,
        };
        let Some(entries) = config.get_mut("auths").and_then(Value::as_object_mut) else {
            return Ok(helped);
        };
        let before = entries.len();
        entries.retain(|key, _| !names(key, registry));
        if entries.len() == before {
            return Ok(helped);
        }
        self.write(&config)?;
        Ok(true)
    }

    fn read(&self) -> Result<Map<String, Value>> {
        let path = self.path.display();
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
            text => text.with_context(|| format!("read {path}"))?,
        };
        serde_json::from_slice(&text)
            .with_context(|| format!("{path} is damaged; mend it, or move it away"))
    }

    /// Writes the file as docker does, the whole of it or nothing.
    fn write(&self, config: &Map<String, Value>) -> Result<()> {
        // A link is the user's, and stays one.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut text = Serializer::with_formatter(Vec::new(), PrettyFormatter::with_indent(b"\t"));
        config.serialize(&mut text)?;
        let new = path.with_extension(format!("json.{}", std::process::id()));
        let written = || -> std::io::Result<()> {
            if let Some(directory) = path.parent() {
                let mut private = DirBuilder::new();
                private.recursive(true).mode(0o700).create(directory)?;
            }
            let mut options = OpenOptions::new();
            let mut file: File = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&text.into_inner())?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        written().with_context(|| {
            let _ = fs::remove_file(&new);
            format!("write {}", path.display())
        })
    }
}

/// What the file calls a registry.
fn server(registry: &str) -> &str {
    match registry {
        "docker.io" | "index.docker.io" => DOCKER,
        other => other,
    }
}

/// A registry's name, of what people write for one: `https://registry.example/v2/`.
#[must_use]
pub fn host_of(address: &str) -> &str {
    let https = address.strip_prefix("https://");
    let rest = https.or(address.strip_prefix("http://"));
    rest.unwrap_or(address)
        .split('/')
        .next()
        .unwrap_or_default()
}

/// The helper that keeps a registry's credentials.
fn helper<'a>(config: &'a Map<String, Value>, registry: &str) -> Option<&'a str> {
    let own = config.get("credHelpers").and_then(|helpers| {
        let helper = helpers.get(server(registry));
        helper.or(helpers.get(registry))
    });
    own.or(config.get("credsStore"))
        .and_then(Value::as_str)
        .filter(|helper| !helper.is_empty())
}

fn entry<'a>(entries: &'a Map<String, Value>, registry: &str) -> Option<&'a Value> {
    let same = || entries.iter().find(|(key, _)| names(key, registry));
    entries.get(server(registry)).or_else(|| Some(same()?.1))
}

/// Whether a key of `auths`, a host or a URL, is the registry's.
fn names(key: &str, registry: &str) -> bool {
    [registry, host_of(server(registry))].contains(&host_of(key))
}

/// An object in an object, made where it is missing.
fn object<'a>(
    parent: &'a mut Map<String, Value>,
    name: &str,
) -> Result<&'a mut Map<String, Value>> {
    let child = parent.entry(name).or_insert_with(|| json!({}));
    child
        .as_object_mut()
        .with_context(|| format!("{name:?} in docker's config.json is not an object; mend it"))
}

fn from_entry(entry: &Value) -> Result<Option<Credentials>> {
    let field = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut user = field("username").to_owned();
    let mut password = field("password").to_owned();
    if !field("auth").is_empty() {
        let bytes = STANDARD
            .decode(field("auth"))
            .context("they are not base64")?;
        let both = String::from_utf8(bytes).context("they are not text")?;
        let (name, rest) = both
            .split_once(':')
            .context("they are not a user's name, a colon and a password")?;
        name.clone_into(&mut user);
        rest.trim_end_matches('\0').clone_into(&mut password);
    }
    let secret = match field("identitytoken") {
        "" if password.is_empty() => return Ok(None),
        "" => Secret::Password(password),
        token => Secret::IdentityToken(token.to_owned()),
    };
    Ok(Some(Credentials { user, secret }))
}

fn fill(entry: &mut Map<String, Value>, credentials: &Credentials) {
    let (password, identity) = match &credentials.secret {
        Secret::Password(password) => (password.as_str(), None),
        Secret::IdentityToken(token) => ("", Some(token)),
    };
    let both = STANDARD.encode(format!("{}:{password}", credentials.user));
    entry.insert("auth".to_owned(), both.into());
    if let Some(token) = identity {
        entry.insert("identitytoken".to_owned(), token.as_str().into());
    }
}

fn from_helper(answer: &str, helper: &str) -> Result<Option<Credentials>> {
    let answer: Value = serde_json::from_str(answer)
        .with_context(|| format!("docker-credential-{helper} answers with something else"))?;
    let field = |name| answer.get(name).and_then(Value::as_str).unwrap_or_default();
    let (user, secret) = (field("Username").to_owned(), field("Secret").to_owned());
    Ok(match user.as_str() {
        _ if secret.is_empty() => None,
        TOKEN_USER => Some(Credentials {
            user: String::new(),
            secret: Secret::IdentityToken(secret),
        }),
        _ => Some(Credentials {
            user,
            secret: Secret::Password(secret),
        }),
    })
}

fn for_helper(server: &str, credentials: &Credentials) -> String {
    let (user, secret) = match &credentials.secret {
        Secret::Password(password) => (credentials.user.as_str(), password),
        Secret::IdentityToken(token) => (TOKEN_USER, token),
    };
    json!({"ServerURL": server, "Username": user, "Secret": secret}).to_string()
}

/// Runs a credential helper, with what it is about on its standard input. `None`: it knows nothing
/// of that.
fn ask(helper: &str, action: &str, input: &str) -> Result<Option<String>> {
    let name = format!("docker-credential-{helper}");
    ensure!(
        !helper.contains('/'),
        "docker's config.json names the helper {helper:?}, which is not a name"
    );
    // A file never waits for a helper that does not read, as a pipe might.
    let told = || -> std::io::Result<File> {
        let mut file = File::from(memfd_create("about", MemfdFlags::CLOEXEC)?);
        file.write_all(input.as_bytes())?;
        file.rewind()?;
        Ok(file)
    };
    let output = Command::new(&name)
        .arg(action)
        .stdin(told().context("keep what to tell a credential helper")?)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {name}, which docker's config.json names"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(Some(text));
    }
    if text.contains("credentials not found") {
        return Ok(None);
    }
    bail!("{name} {action}: {}: {}", output.status, printable(&text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A directory with that `config.json`, of the test `name` alone.
    fn keychain(name: &str, config: &str) -> Keychain {
        let directory =
            std::env::temp_dir().join(format!("keychain-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        if !config.is_empty() {
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("config.json"), config).unwrap();
        }
        Keychain::at(&directory)
    }

    fn text(keychain: &Keychain) -> String {
        fs::read_to_string(&keychain.path).unwrap()
    }

    fn done(keychain: &Keychain) {
        fs::remove_dir_all(keychain.path.parent().unwrap()).unwrap();
    }

    fn password(user: &str, password: &str) -> Credentials {
        Credentials {
            user: user.to_owned(),
            secret: Secret::Password(password.to_owned()),
        }
    }

    fn identity(token: &str) -> Secret {
        Secret::IdentityToken(token.to_owned())
    }

    #[test]
    fn credentials_are_found_as_docker_keeps_them() {
        // me:pass:word, you:, them:other
        let keychain = keychain(
            "find",
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "bWU6cGFzczp3b3Jk"},
                "token.example": {"auth": "eW91Og==", "identitytoken": "t"},
                "http://old.example:5000/v1/": {"auth": "dGhlbTpvdGhlcg=="},
                "plain.example": {"username": "a", "password": "b"},
                "none.example": {},
                "bad.example": {"auth": "?"}
            }}"#,
        );
        let find = |registry| keychain.find(registry).unwrap();
        assert!(find("docker.io") == Some(password("me", "pass:word")));
        let token = find("token.example").unwrap();
        assert!(token.user == "you" && token.secret == identity("t"));
        assert!(find("old.example:5000") == Some(password("them", "other")));
        assert!(find("plain.example") == Some(password("a", "b")));
        for nobody in ["none.example", "old.example", "other.example"] {
            assert!(find(nobody).is_none(), "{nobody}");
        }
        let error = format!("{:#}", keychain.find("bad.example").err().unwrap());
        assert!(error.contains("bad.example") && error.contains("base64"));
        done(&keychain);
    }

    #[test]
    fn a_missing_file_knows_nobody_and_a_damaged_one_is_named() {
        let missing = keychain("missing", "");
        assert!(missing.find("docker.io").unwrap().is_none());
        assert!(!missing.erase("docker.io").unwrap());
        let damaged = keychain("damaged", "{");
        let error = format!("{:#}", damaged.find("docker.io").err().unwrap());
        assert!(error.contains("config.json is damaged"), "{error}");
        done(&damaged);
    }

    #[test]
    fn what_is_stored_is_found_and_everything_else_stays_as_it_was() {
        let config = r#"{"z":[1.50],"auths":{"b.example":{"auth":"x","email":"e"},"a.example":{}},"a":{"c":1,"b":2}}"#;
        let keychain = keychain("store", config);
        keychain
            .store("b.example", &password("me", "pass:word"))
            .unwrap();
        keychain.store("docker.io", &password("me", "")).unwrap();
        assert_eq!(
            text(&keychain).replace(['\n', '\t', ' '], ""),
            r#"{"z":[1.5],"auths":{"b.example":{"email":"e","auth":"bWU6cGFzczp3b3Jk"},"a.example":{},"https://index.docker.io/v1/":{"auth":"bWU6"}},"a":{"c":1,"b":2}}"#
        );
        assert!(text(&keychain).contains("\n\t\"auths\": {"));
        let mode = fs::metadata(&keychain.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(keychain.find("b.example").unwrap() == Some(password("me", "pass:word")));
        assert!(keychain.erase("b.example").unwrap());
        assert!(!keychain.erase("b.example").unwrap());
        assert!(text(&keychain).contains("a.example"));
        done(&keychain);
    }

    #[test]
    fn an_identity_token_is_kept_beside_the_name() {
        let keychain = keychain("identity", "");
        let credentials = Credentials {
            user: "me".to_owned(),
            secret: identity("t"),
        };
        let path = keychain.store("a.example", &credentials).unwrap();
        assert_eq!(path, Some(&*keychain.path));
        assert!(keychain.find("a.example").unwrap() == Some(credentials));
        let directory = fs::metadata(keychain.path.parent().unwrap()).unwrap();
        assert_eq!(directory.permissions().mode() & 0o777, 0o700);
        done(&keychain);
    }

    #[test]
    fn a_link_to_the_file_stays_one() {
        let keychain = keychain("link", "{}");
        let real = keychain.path.with_file_name("real.json");
        fs::rename(&keychain.path, &real).unwrap();
        std::os::unix::fs::symlink(&real, &keychain.path).unwrap();
        keychain.store("a.example", &password("me", "x")).unwrap();
        assert!(keychain.path.is_symlink());
        assert!(fs::read_to_string(real).unwrap().contains("a.example"));
        done(&keychain);
    }

    /// A helper that keeps what it is told in files, and finds nothing for nobody.example.
    const HELPER: &str = r#"#!/bin/sh
        read -r line
        printf '%s %s\n' "$1" "$line" >> "$0.log"
        case "$1 $line" in
            "get full.example") echo '{"ServerURL":"","Username":"me","Secret":"pass"}';;
            "get token.example") echo '{"Username":"<token>","Secret":"t"}';;
            "get broken.example") echo 'the vault is locked'; exit 3;;
            get*) echo 'credentials not found in native keychain'; exit 1;;
        esac
    "#;

    /// Helpers are found by PATH, which is the whole process's. So this test is run again in one of
    /// its own.
    #[test]
    fn helpers_are_asked_and_told() {
        const INSIDE: &str = "MINIDOCKER_TEST_HELPERS";
        if std::env::var_os(INSIDE).is_some() {
            return with_helpers();
        }
        let config = r#"{"credHelpers":{"full.example":"one","token.example":"one",
            "broken.example":"one","missing.example":"nowhere","evil.example":"../x"},
            "credsStore":"two"}"#;
        let keychain = keychain("helpers", config);
        let directory = keychain.path.parent().unwrap();
        for name in ["one", "two"] {
            let path = directory.join(format!("docker-credential-{name}"));
            fs::write(&path, HELPER).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let name = "registry::keychain::tests::helpers_are_asked_and_told";
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env("PATH", format!("{}:{path}", directory.display()))
            .env("DOCKER_CONFIG", directory)
            .env(INSIDE, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
        done(&keychain);
    }

    fn with_helpers() {
        let keychain = Keychain::open().unwrap();
        let find = |registry| keychain.find(registry).unwrap();
        assert!(find("full.example") == Some(password("me", "pass")));
        assert!(find("token.example").unwrap().secret == identity("t"));
        assert!(find("docker.io").is_none());
        for (registry, expected) in [
            ("broken.example", "exit status: 3: the vault is locked"),
            ("missing.example", "docker-credential-nowhere"),
            ("evil.example", "not a name"),
        ] {
            let error = format!("{:#}", keychain.find(registry).err().unwrap());
            assert!(error.contains(expected), "{error}");
        }
        let stored = keychain
            .store("docker.io", &password("me", "pass"))
            .unwrap();
        assert_eq!(stored, None);
        assert!(!text(&keychain).contains("auth\""), "{}", text(&keychain));
        assert!(keychain.erase("docker.io").unwrap());
        let log = keychain.path.with_file_name("docker-credential-two.log");
        let expected = [
            "get https://index.docker.io/v1/",
            r#"store {"ServerURL":"https://index.docker.io/v1/","Username":"me","Secret":"pass"}"#,
            "erase https://index.docker.io/v1/",
        ];
        let log = fs::read_to_string(log).unwrap();
        assert_eq!(log.lines().collect::<Vec<_>>(), expected);
    }
}
