//! Credentials, in docker's own file.

use harness::registry::{Minidocker, PASSWORD, Registry, USER};
use harness::{Host, Output, User};
use serde_json::{Value, json};

use crate::{BOTH, Images, host};

fn config(host: &Host, minidocker: &Minidocker<'_>) -> Value {
    let path = format!("{}/.docker/config.json", minidocker.home());
    let text = std::fs::read(host.path(&path)).expect("a configuration");
    serde_json::from_slice(&text).expect("JSON")
}

fn login(minidocker: &Minidocker<'_>, address: &str, password: &str) -> Output {
    let line = format!("login -u {USER} --password-stdin {address}");
    let mut login = minidocker.feed(&line);
    login.write(format!("{password}\n").as_bytes());
    login.wait()
}

#[test]
fn a_login_is_kept_as_docker_keeps_it() {
    let host = host();
    Images::new(&host);
    let registry = Registry::htpasswd(&host);
    let address = registry.address();
    let name = registry.fill("/tmp/layout", "one", "one");
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        let said = minidocker.fails(&format!("pull {name}"));
        assert!(said.contains("auth"), "{said}");
        let out = login(&minidocker, &address, "open simsim");
        assert!(out.exits(1).contains("unauthorized"), "{out}");
        let path = format!("{}/.docker/config.json", minidocker.home());
        assert!(!host.path(&path).exists(), "a wrong password is not kept");
        let there = json!({"auths": {"other.test": {"auth": "eDp5"}}, "psFormat": "table {{.ID}}"});
        let script = format!(
            "mkdir -p ~/.docker; echo '{there}' >~/.docker/config.json; chmod 640 ~/.docker/config.json"
        );
        host.run_as(user, ["sh", "-c", &script]).ok();
        let out = login(&minidocker, &address, PASSWORD);
        assert!(out.ok().contains("Login Succeeded"), "{out}");
        let kept = config(&host, &minidocker);
        // printf 'tester:open sesame' | base64
        assert_eq!(
            kept["auths"][&address],
            json!({"auth": "dGVzdGVyOm9wZW4gc2VzYW1l"})
        );
        assert_eq!(kept["auths"]["other.test"], json!({"auth": "eDp5"}));
        assert_eq!(kept["psFormat"], json!("table {{.ID}}"));
        let mode = host.run_as(user, ["stat", "-c", "%a %U", &path]).ok();
        assert!(
            mode.starts_with("600 ") || mode.starts_with("640 "),
            "{mode}"
        );
        // Others read it too.
        let words = [
            "skopeo",
            "inspect",
            "--tls-verify=false",
            "--authfile",
            &path,
        ];
        host.run_as(
            user,
            words
                .into_iter()
                .chain([format!("docker://{name}").as_str()]),
        )
        .ok();
        minidocker.ok(&format!("pull {name}"));
        minidocker.assert_sound();
        let said = minidocker.ok(&format!("logout {address}"));
        assert!(said.contains(&address), "{said}");
        let kept = config(&host, &minidocker);
        assert_eq!(kept["auths"], json!({"other.test": {"auth": "eDp5"}}));
        minidocker.ok(&format!("rmi {name}"));
        minidocker.fails(&format!("pull {name}"));
    }
}

#[test]
fn a_new_file_of_credentials_is_for_its_owner_alone() {
    let host = host();
    let registry = Registry::token(&host, &[]);
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user).with("DOCKER_CONFIG=/tmp/elsewhere");
        host.run_as(user, ["mkdir", "-m", "700", "/tmp/elsewhere"])
            .ok();
        login(&minidocker, &registry.address(), PASSWORD).ok();
        let out = host.run_as(user, ["stat", "-c", "%a", "/tmp/elsewhere/config.json"]);
        assert_eq!(out.ok(), "600");
        let home = format!("{}/.docker", minidocker.home());
        assert!(!host.path(&home).exists());
        host.shell("rm -r /tmp/elsewhere");
    }
}

#[test]
fn an_identity_token_takes_the_passwords_place() {
    let host = host();
    let registry = Registry::token(&host, &["--identity"]);
    let minidocker = Minidocker::of(&host, User::Root);
    login(&minidocker, &registry.address(), PASSWORD).ok();
    let kept = config(&host, &minidocker);
    let entry = &kept["auths"][registry.address()];
    let token = entry["identitytoken"].as_str().unwrap_or_default();
    assert!(token.len() > 10, "{kept}");
    assert!(
        !kept.to_string().contains("b3BlbiBzZXNhbWU"),
        "the password is not kept: {kept}"
    );
}

#[test]
fn a_helper_is_asked_for_what_it_keeps() {
    let host = host();
    Images::new(&host);
    let registry = Registry::htpasswd(&host);
    let address = registry.address();
    let name = registry.fill("/tmp/layout", "one", "one");
    let helper = format!(
        "#!/bin/sh\nread server\necho \"$1 $server\" >>/tmp/asked\n\
         [ \"$server\" = {address} ] || {{ echo 'credentials not found in native keychain'; exit 1; }}\n\
         echo '{{\"ServerURL\":\"{address}\",\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n"
    );
    let path = host.path("/run/workspace/docker-credential-tests");
    std::fs::write(path, helper).expect("write to the machine's memory");
    host.shell(
        "chmod 755 /run/workspace/docker-credential-tests; install -m 666 /dev/null /tmp/asked",
    );
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        for kept in [
            json!({"credHelpers": {&address: "tests"}}),
            json!({"credsStore": "tests"}),
        ] {
            let script =
                format!("mkdir -p ~/.docker; echo '{kept}' >~/.docker/config.json; : >/tmp/asked");
            host.run_as(user, ["sh", "-c", &script]).ok();
            minidocker.ok(&format!("pull {name}"));
            let asked = host.shell("cat /tmp/asked");
            assert!(
                asked.lines().all(|line| line == format!("get {address}")),
                "{asked}"
            );
            assert!(!asked.is_empty());
            assert_eq!(
                config(&host, &minidocker),
                kept,
                "what is only read stays as it is"
            );
            minidocker.ok(&format!("rmi {name}"));
        }
    }
}
