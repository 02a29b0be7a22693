//! Certificates, and who is believed.

use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use ureq::Agent;
use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};

use crate::registry::tls::Tls;

/// A certificate for `localhost` that calls itself an authority's, its key, and a certificate that
/// has nothing to do with them.
const LOCALHOST: &[u8] = include_bytes!("localhost.pem");

fn certificates() -> [CertificateDer<'static>; 2] {
    let read = CertificateDer::pem_slice_iter(LOCALHOST).collect();
    let read: std::result::Result<Vec<_>, _> = read;
    let both = read.ok().and_then(|read| read.try_into().ok());
    both.expect("two certificates")
}

/// A server that shows the certificate, and answers everybody who takes it. Its port.
fn server() -> u16 {
    let [own, _] = certificates();
    let key = PrivateKeyDer::from_pem_slice(LOCALHOST).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![own], key)
        .expect("a certificate and its key");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Who does not take the certificate hangs up.
            drop(answer(client, config.clone()));
        }
    });
    port
}

fn answer(client: TcpStream, config: Arc<ServerConfig>) -> Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, client);
    let _ = stream.read(&mut [0; 4096])?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

/// What comes of a request to `host` by who believes what `tls` says.
fn get(tls: Tls, host: &str) -> String {
    let connector = ().chain(TcpConnector::default()).chain(tls);
    let agent = Agent::with_parts(Config::default(), connector, DefaultResolver::default());
    match agent.get(format!("https://{host}:{}/", server())).call() {
        Ok(answer) => answer.status().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_certificate_is_good_that_is_trusted_itself() {
    let trusting = || Tls::believing(certificates().to_vec()).unwrap();
    assert_eq!(get(trusting(), "localhost"), "200 OK");
    let other = get(trusting(), "127.0.0.1");
    assert!(other.contains("not valid for name"), "{other}");
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let [_, other] = certificates();
    let stranger = get(Tls::believing(vec![other]).unwrap(), "localhost");
    assert!(stranger.contains("UnknownIssuer"), "{stranger}");
}

#[test]
fn who_is_blind_takes_any_certificate() {
    assert_eq!(get(Tls::blind().unwrap(), "localhost"), "200 OK");
    assert_eq!(get(Tls::blind().unwrap(), "127.0.0.1"), "200 OK");
}
