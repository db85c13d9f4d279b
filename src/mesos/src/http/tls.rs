//! TLS towards masters and agents: whom to believe, and who we are.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};

use super::HttpConfigError;

/// No certificate file is larger; some bundles have half a megabyte.
const MAX_PEM: u64 = 4 * 1024 * 1024;

/// Certificates and keys, as PEM files. They are read once, when the transport is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificates of the authorities to believe. When empty, those that the system believes.
    pub ca_files: Vec<PathBuf>,
    /// Who we are, for masters that ask (`LIBPROCESS_SSL_REQUIRE_CLIENT_CERT`).
    pub identity: Option<TlsIdentity>,
    /// Whether the peer must show a certificate of such an authority that bears its name or address. Without
    /// it anybody in between can read and change everything (`LIBPROCESS_SSL_VERIFY_SERVER_CERT=false`).
    pub verify: bool,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { ca_files: Vec::new(), identity: None, verify: true }
    }
}

/// A client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The certificate, and those between it and the authority.
    pub certificate_file: PathBuf,
    /// Its private key, not encrypted.
    pub key_file: PathBuf,
}

/// Why a file of [`TlsConfig`] is of no use. Never holds any of its content.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// It cannot be read.
    #[error("read it")]
    Read(#[source] io::Error),
    /// It is far too large for what it should be.
    #[error("larger than {MAX_PEM} bytes")]
    TooLarge,
    /// It is no PEM.
    #[error("it is not PEM")]
    Pem,
    /// It holds no such thing.
    #[error("it holds no {0}")]
    Missing(&'static str),
    /// What it holds does not fit.
    #[error("unusable")]
    Unusable(#[source] rustls::Error),
}

/// The client side's settings for both plain and TLS connections.
pub(super) fn client_config(tls: Option<&TlsConfig>) -> Result<ClientConfig, HttpConfigError> {
    let default = TlsConfig::default();
    let tls = tls.unwrap_or(&default);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(HttpConfigError::Tls)?;
    let builder = if tls.verify {
        builder.with_root_certificates(roots(&tls.ca_files)?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    };
    let Some(TlsIdentity { certificate_file, key_file }) = &tls.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate_file).map_err(|error| bad(certificate_file, error))?;
    let key = read(key_file)
        .and_then(|pem| PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsFileError::Missing("private key")))
        .map_err(|error| bad(key_file, error))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| bad(certificate_file, TlsFileError::Unusable(error)))
}

fn bad(path: &Path, source: TlsFileError) -> HttpConfigError {
    HttpConfigError::BadTlsFile { path: path.to_owned(), source }
}

fn roots(ca_files: &[PathBuf]) -> Result<RootCertStore, HttpConfigError> {
    let mut roots = RootCertStore::empty();
    if ca_files.is_empty() {
        // A system without authorities is fine as long as nothing is asked by https.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    for path in ca_files {
        for certificate in certificates(path).map_err(|error| bad(path, error))? {
            roots.add(certificate).map_err(|error| bad(path, TlsFileError::Unusable(error)))?;
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsFileError::Pem)?;
    if certificates.is_empty() { Err(TlsFileError::Missing("certificate")) } else { Ok(certificates) }
}

fn read(path: &Path) -> Result<Secret, TlsFileError> {
    let size = std::fs::metadata(path).map_err(TlsFileError::Read)?.len();
    if size > MAX_PEM {
        return Err(TlsFileError::TooLarge);
    }
    std::fs::read(path).map(Secret).map_err(TlsFileError::Read)
}

/// Bytes that may be a key.
struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl std::ops::Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Believes everybody who holds the key of the certificate that he shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
