//! TLS for looks: the machine's roots, read once and shared; full handshakes only.

use std::io::BufReader;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::domain::model::{Cause, Verdict, rfc3339};

/// The settings that all looks with the machine's own roots share; plain http never fills it.
#[derive(Debug, Default)]
pub struct Roots(OnceLock<Result<Arc<ClientConfig>, String>>);

impl Roots {
    /// The shared settings; reads the machine's roots at the first call (some ten milliseconds).
    ///
    /// # Errors
    /// The machine has no readable roots.
    pub fn native(&self) -> Result<Arc<ClientConfig>, String> {
        self.0
            .get_or_init(|| {
                let found = rustls_native_certs::load_native_certs();
                let mut roots = RootCertStore::empty();
                // A single certificate that does not parse is no reason to trust none of the others.
                let (taken, _) = roots.add_parsable_certificates(found.certs);
                if taken == 0 {
                    let why = found.errors.first().map_or_else(|| "none was found".to_owned(), ToString::to_string);
                    return Err(format!(
                        "reading this machine's root certificates failed: {why}; install them (Debian: ca-certificates) or give ca_file"
                    ));
                }
                verified(roots)
            })
            .clone()
    }
}

/// Settings that trust the certificates of `file` alone.
///
/// # Errors
/// The file cannot be read, or holds no certificate.
pub fn from_file(file: &Path) -> Result<Arc<ClientConfig>, String> {
    let shown = file.display();
    let open = std::fs::File::open(file).map_err(|cause| format!("reading ca_file {shown} failed: {cause}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_reader_iter(BufReader::new(open)) {
        let certificate = certificate.map_err(|cause| format!("ca_file {shown} is not PEM: {cause}"))?;
        roots.add(certificate).map_err(|cause| format!("ca_file {shown} holds a certificate that cannot be a root: {cause}"))?;
    }
    if roots.is_empty() {
        return Err(format!("ca_file {shown} holds no certificate; give a PEM file with BEGIN CERTIFICATE in it"));
    }
    verified(roots)
}

/// Settings that trust anybody: `verify_tls = false`.
///
/// # Errors
/// None in practice: the provider offers the default protocol versions.
pub fn unverified() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = builder(&provider)?;
    Ok(finished(builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth()))
}

/// Settings that trust nobody: for clients that speak plain http and should hold no roots.
///
/// # Errors
/// None in practice: the provider offers the default protocol versions.
pub fn trusting_nobody() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    Ok(finished(builder(&provider)?.with_root_certificates(RootCertStore::empty()).with_no_client_auth()))
}

fn verified(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|cause| format!("setting up TLS failed: {cause}"))?;
    Ok(finished(builder(&provider)?.with_webpki_verifier(verifier).with_no_client_auth()))
}

fn builder(provider: &Arc<CryptoProvider>) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|cause| format!("setting up TLS failed: {cause}"))
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    // A resumed session shows no certificate: one that expired meanwhile would go unseen.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// What a TLS error means, with words for a person. What only our own machine can cause is not held against the other side.
pub fn classed(error: &Error) -> (Verdict, String) {
    let verdict = match error {
        Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes => Verdict::Unknown(Cause::Unclassified),
        _ => Verdict::Down(Cause::Tls),
    };
    let words = match error {
        Error::InvalidCertificate(CertificateError::Expired) => "the certificate has expired".to_owned(),
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            let ended = i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX).saturating_mul(1_000_000);
            format!("the certificate has expired, on {}", rfc3339(ended))
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "the certificate is not valid yet".to_owned()
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => "the certificate's issuer is not trusted".to_owned(),
        Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            "the certificate is for another name".to_owned()
        }
        other => other.to_string(),
    };
    (verdict, words)
}

/// Accepts every certificate, and checks only that the peer holds its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
