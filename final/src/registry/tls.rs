//! HTTPS: who has to prove to be whom.
//!
//! A certificate is good that an authority vouches for, and, beyond the rule of the book (RFC 5280,
//! section 4.2.1.9), one that is itself trusted: `openssl req -x509` makes an authority of each
//! certificate for a single server, and those are what private registries have.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, OtherError,
    RootCertStore, SignatureScheme, StreamOwned,
};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

/// Where docker keeps the certificates of registries that no public authority vouches for.
pub(crate) const CERTIFICATES: &str = "/etc/docker/certs.d";

/// Makes HTTPS connections of ureq's plain ones.
#[derive(Debug)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Takes everybody for who he says he is.
    pub(crate) fn blind() -> Result<Tls> {
        Tls::with(Proof::None)
    }

    /// Believes this host's authorities, and those that docker was given for the registry `name`.
    /// They take some milliseconds to read.
    pub(crate) fn for_registry(name: &str) -> Result<Tls> {
        let native = rustls_native_certs::load_native_certs();
        let mut trusted = native.certs;
        trusted.extend(own_authorities(&Path::new(CERTIFICATES).join(name))?);
        if trusted.is_empty() {
            let why = native.errors.first().map(|error| format!(" ({error})"));
            bail!(
                "this host has no certificates of authorities{}; install them (Debian: ca-certificates), or name their file in SSL_CERT_FILE",
                why.unwrap_or_default()
            );
        }
        Tls::believing(trusted)
    }

    pub(crate) fn believing(trusted: Vec<CertificateDer<'static>>) -> Result<Tls> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let provider = Arc::new(ring::default_provider());
        let authorities = WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .context("none of this host's authorities can be used")?;
        Tls::with(Proof::Vouched {
            authorities,
            trusted,
        })
    }

    fn with(proof: Proof) -> Result<Tls> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier {
            proof,
            provider: provider.clone(),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Tls(config.into()))
    }
}

/// The certificates in the files `*.crt` of a directory, which need not be there.
fn own_authorities(directory: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(found);
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", directory.display()))?;
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "crt") {
            let read = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect);
            let read: Vec<CertificateDer> =
                read.with_context(|| format!("read the certificates in {}", path.display()))?;
            found.extend(read);
        }
    }
    Ok(found)
}

/// What the other side has to show.
#[derive(Debug)]
enum Proof {
    None,
    Vouched {
        authorities: Arc<WebPkiServerVerifier>,
        trusted: Vec<CertificateDer<'static>>,
    },
}

#[derive(Debug)]
struct Verifier {
    proof: Proof,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer,
        intermediates: &[CertificateDer],
        name: &ServerName,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Proof::Vouched {
            authorities,
            trusted,
        } = &self.proof
        else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = authorities.verify_server_cert(certificate, intermediates, name, ocsp, now);
        match verified {
            // This is looked at after the dates and before the name.
            Err(error) if is_authority(&error) => {
                if !trusted.contains(certificate) {
                    return Err(CertificateError::UnknownIssuer.into());
                }
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Whether all that is wrong with a server's certificate is that it is an authority's.
fn is_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error
    else {
        return false;
    };
    matches!(inner.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, TlsTransport<In>>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(plain) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() || plain.is_tls() {
            return Ok(Some(Either::A(plain)));
        }
        let host = details.uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Error::BadUri(format!("{host:?} is no name for TLS")))?;
        let mut connection = ClientConnection::new(self.0.clone(), name)
            .map_err(|error| Error::Other(error.into()))?;
        let mut socket = TransportAdapter::new(plain, details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let (input, output) = (
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(Either::B(TlsTransport {
            buffers: LazyBuffers::new(input, output),
            stream: StreamOwned::new(connection, socket),
        })))
    }
}

/// A connection over which rustls speaks.
pub(crate) struct TlsTransport<In: Transport> {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter<In>>,
}

impl<In: Transport> Transport for TlsTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output();
        self.stream
            .write_all(output.get(..amount).unwrap_or_default())?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let count = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl<In: Transport> fmt::Debug for TlsTransport<In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport").finish_non_exhaustive()
    }
}
