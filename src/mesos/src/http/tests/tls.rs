//! TLS with certificates that are made here: whom we believe, whom they believe, and where credentials go.

use std::{net::IpAddr, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::detect::Leader;

/// An authority, with a directory for what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate and its key, both as PEM, for a server at 127.0.0.1 and `master.test`, or a client.
    fn sign(&self, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec!["master.test".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::from([127, 0, 0, 1])));
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn identity(&self) -> TlsIdentity {
        let (certificate, key) = self.sign(ExtendedKeyUsagePurpose::ClientAuth);
        std::fs::write(self.file("client.pem"), certificate).unwrap();
        std::fs::write(self.file("client.key"), key).unwrap();
        TlsIdentity { certificate_file: self.file("client.pem"), key_file: self.file("client.key") }
    }

    fn acceptor(&self, wants_client: bool) -> TlsAcceptor {
        let (certificate, key) = self.sign(ExtendedKeyUsagePurpose::ServerAuth);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if wants_client {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.issuer.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }

    fn believed(&self) -> TlsConfig {
        TlsConfig { ca_files: vec![self.file("ca.pem")], ..TlsConfig::default() }
    }
}

/// A master that speaks TLS only, and gives each request the next of the prepared answers.
struct Secure {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    _accepting: JoinSet<()>,
}

impl Secure {
    async fn start(acceptor: TlsAcceptor, answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            for answer in answers {
                // Handshakes that fail use up no answer.
                let mut socket = loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    if let Ok(socket) = acceptor.accept(socket).await {
                        break socket;
                    }
                };
                // With TLS 1.3 a client learns only now that its certificate is missed.
                let Some(request) = try_read_request(&mut socket).await else { continue };
                seen.lock().unwrap().push(request);
                socket.write_all(&answer).await.unwrap();
                socket.shutdown().await.unwrap();
            }
        });
        Self { address, requests, _accepting: accepting }
    }
}

fn with_tls(tls: TlsConfig) -> HttpConfig {
    HttpConfig { tls: Some(tls), ..config() }
}

async fn ask(address: &str, config: HttpConfig) -> Result<Vec<EventType>, String> {
    let scheduler = HttpScheduler::new([address], config).unwrap();
    let subscription =
        scheduler.subscribe(&call(CallType::Subscribe)).await.map_err(|error| error.to_string())?;
    let events: Vec<_> = subscription.events.collect().await;
    Ok(events.into_iter().map(|event| event.unwrap().kind).collect())
}

fn removed() -> Vec<u8> {
    fixture("02_subscribe_minimal_disconnect.s2.bin")
}

#[tokio::test]
async fn a_master_with_a_certificate_of_our_authority_is_believed() {
    let authority = Authority::new();
    let master = Secure::start(authority.acceptor(false), vec![removed()]).await;
    // Without a scheme it is https, since TLS is set up.
    let events = ask(&master.address.to_string(), with_tls(authority.believed())).await.unwrap();
    assert_eq!(events, [EventType::Error]);
}

#[tokio::test]
async fn a_master_of_another_authority_or_with_another_name_is_not() {
    let (authority, other) = (Authority::new(), Authority::new());
    let master = Secure::start(authority.acceptor(false), vec![removed()]).await;
    let error = ask(&master.address.to_string(), with_tls(other.believed())).await.unwrap_err();
    assert!(error.contains("invalid peer certificate"), "{error}");
    let by_name = format!("https://localhost:{}", master.address.port());
    let error = ask(&by_name, with_tls(authority.believed())).await.unwrap_err();
    assert!(error.contains("not valid for name"), "{error}");
    // The system's own authorities do not know it either.
    let error = ask(&format!("https://{}", master.address), config()).await.unwrap_err();
    assert!(error.contains("invalid peer certificate"), "{error}");
    let careless = TlsConfig { verify: false, ..other.believed() };
    assert_eq!(ask(&by_name, with_tls(careless)).await, Ok(vec![EventType::Error]));
    assert_eq!(master.requests.lock().unwrap().len(), 1, "nothing was said to those that are not believed");
}

#[tokio::test]
async fn a_master_that_asks_for_our_certificate_gets_it() {
    let authority = Authority::new();
    let master = Secure::start(authority.acceptor(true), vec![removed(), removed()]).await;
    let address = master.address.to_string();
    let error = ask(&address, with_tls(authority.believed())).await.unwrap_err();
    assert!(error.contains("CertificateRequired"), "{error}");
    let tls = TlsConfig { identity: Some(authority.identity()), ..authority.believed() };
    assert_eq!(ask(&address, with_tls(tls)).await, Ok(vec![EventType::Error]));
}

#[tokio::test]
async fn a_redirect_between_two_masters_keeps_tls_and_credentials() {
    let authority = Authority::new();
    let leader = Secure::start(authority.acceptor(true), vec![removed()]).await;
    let location = format!("Location: //{}/master/api/v1/scheduler\r\n", leader.address);
    let redirect = answer("307 Temporary Redirect", &location, "");
    let follower = Secure::start(authority.acceptor(true), vec![redirect]).await;
    let tls = TlsConfig { identity: Some(authority.identity()), ..authority.believed() };
    let credentials = Some(Credentials { principal: "me".to_owned(), secret: "pw".to_owned() });
    let config = HttpConfig { credentials, ..with_tls(tls) };
    assert_eq!(ask(&follower.address.to_string(), config).await, Ok(vec![EventType::Error]));
    let requests = leader.requests.lock().unwrap();
    assert_eq!(requests[0].headers["authorization"], "Basic bWU6cHc=");
}

#[tokio::test]
async fn a_redirect_out_of_tls_is_not_followed() {
    let authority = Authority::new();
    let plain = Server::start(vec![removed()]).await;
    let location = format!("Location: http://{}/api/v1/scheduler\r\n", plain.address);
    let redirect = answer("307 Temporary Redirect", &location, "");
    let master = Secure::start(authority.acceptor(false), vec![redirect]).await;
    let error = ask(&master.address.to_string(), with_tls(authority.believed())).await.unwrap_err();
    assert!(error.contains("it leaves TLS"), "{error}");
    assert!(plain.requests().is_empty());
}

#[tokio::test]
async fn files_that_are_of_no_use_are_named_and_never_shown() {
    let authority = Authority::new();
    let TlsIdentity { certificate_file, key_file } = authority.identity();
    std::fs::write(authority.file("empty.pem"), "").unwrap();
    let identity = |certificate_file: &PathBuf, key_file: &PathBuf| TlsConfig {
        identity: Some(TlsIdentity {
            certificate_file: certificate_file.clone(),
            key_file: key_file.clone(),
        }),
        ..authority.believed()
    };
    let ca = |name: &str| TlsConfig { ca_files: vec![authority.file(name)], ..TlsConfig::default() };
    for (tls, file, expected) in [
        (ca("absent.pem"), "absent.pem", "read it"),
        (ca("empty.pem"), "empty.pem", "it holds no certificate"),
        (ca("client.key"), "client.key", "it holds no certificate"),
        (identity(&certificate_file, &certificate_file), "client.pem", "it holds no private key"),
        (identity(&authority.file("ca.pem"), &key_file), "ca.pem", "unusable"),
    ] {
        let error = HttpScheduler::new(["m:1"], with_tls(tls)).unwrap_err();
        let HttpConfigError::BadTlsFile { path, source } = &error else { panic!("{error}") };
        assert_eq!(
            (path.file_name().unwrap().to_str().unwrap(), source.to_string().as_str()),
            (file, expected)
        );
        assert!(!format!("{error:?}").contains("PRIVATE"), "{error:?}");
    }
}

#[tokio::test]
async fn a_master_that_zookeeper_names_is_verified_by_its_name_and_reached_without_dns() {
    let authority = Authority::new();
    let master = Secure::start(authority.acceptor(false), vec![removed()]).await;
    let scheduler = HttpScheduler::new(["zk://127.0.0.1:1/mesos"], with_tls(authority.believed())).unwrap();
    let leader = |hostname: &str| Leader {
        id: "m".to_owned(),
        hostname: Some(hostname.to_owned()),
        ip: master.address.ip(),
        port: master.address.port(),
    };
    let url = scheduler.url_of(&leader("10.0.0.1")).unwrap();
    assert_eq!(url.host_str(), Some("127.0.0.1"), "a name that is none");
    let url = scheduler.url_of(&leader("Master.Test")).unwrap();
    assert_eq!((url.scheme(), url.host_str()), ("https", Some("master.test")));
    let (at, subscription) = scheduler.subscribe_at(&url, &call(CallType::Subscribe)).await.unwrap();
    assert_eq!(at, url);
    assert_eq!(subscription.events.collect::<Vec<_>>().await.len(), 1);
}
