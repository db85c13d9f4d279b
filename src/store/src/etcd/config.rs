//! How to reach etcd.

use std::{fmt, time::Duration};

use etcd_client::{Certificate, Identity, TlsOptions};

use crate::Error;

/// How to reach etcd.
#[derive(Clone)]
pub struct EtcdConfig {
    /// `http://host:port`, or `https://host:port` with [`EtcdConfig::tls`]; each a member of the same cluster.
    pub endpoints: Vec<String>,
    /// Name and password.
    pub user: Option<(String, String)>,
    /// Certificates, for `https` endpoints.
    pub tls: Option<TlsConfig>,
    /// Longest time one call may take, with all its tries. Default 3 s.
    pub call_timeout: Duration,
    /// Longest time to connect to one endpoint. Default 2 s.
    pub connect_timeout: Duration,
}

/// What TLS needs to know, each in PEM.
#[derive(Clone, Default)]
pub struct TlsConfig {
    /// The authorities that sign the servers' certificates.
    pub authorities: Vec<u8>,
    /// This client's certificate and private key, where servers ask for them.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            user: None,
            tls: None,
            call_timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(2),
        }
    }
}

/// Without the password.
impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoints, user, tls, call_timeout, connect_timeout } = self;
        f.debug_struct("EtcdConfig")
            .field("endpoints", endpoints)
            .field("user", &user.as_ref().map(|(name, _)| name))
            .field("tls", tls)
            .field("call_timeout", call_timeout)
            .field("connect_timeout", connect_timeout)
            .finish()
    }
}

/// Without the private key.
impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = if self.identity.is_some() { "with" } else { "without" };
        write!(f, "TlsConfig({identity} client certificate)")
    }
}

impl EtcdConfig {
    /// Finds what can be wrong with it without asking anybody.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.endpoints.is_empty() {
            let reason = "the list is empty: give at least one endpoint, such as http://127.0.0.1:2379";
            return Err(Error::BadEndpoint { endpoint: String::new(), reason: reason.to_owned() });
        }
        self.endpoints.iter().try_for_each(|endpoint| {
            self.check_endpoint(endpoint)
                .map_err(|reason| Error::BadEndpoint { endpoint: endpoint.clone(), reason })
        })
    }

    fn check_endpoint(&self, endpoint: &str) -> Result<(), String> {
        let expected = "expected http://<host>:<port> or https://<host>:<port>";
        let (scheme, rest) = endpoint.split_once("://").ok_or(expected)?;
        match (scheme, &self.tls) {
            ("http", None) | ("https", Some(_)) => {}
            ("https", None) => return Err("https needs the certificate of the authority".to_owned()),
            ("http", Some(_)) => return Err("certificates are given, so the scheme must be https".to_owned()),
            _ => return Err(format!("scheme {scheme:?} is not supported, {expected}")),
        }
        let (host, port) =
            rest.trim_end_matches('/').rsplit_once(':').ok_or(format!("no port, {expected}"))?;
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@,".contains(c);
        if host.is_empty() || host.contains(odd) {
            return Err(format!("{host:?} is no host, {expected}"));
        }
        match port.parse::<u16>() {
            Ok(1..) => Ok(()),
            _ => Err(format!("{port:?} is no port, {expected}")),
        }
    }
}

impl TlsConfig {
    pub(super) fn options(&self) -> TlsOptions {
        let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(&self.authorities));
        if let Some((certificate, key)) = &self.identity {
            options = options.identity(Identity::from_pem(certificate, key));
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(endpoint: &str) -> EtcdConfig {
        EtcdConfig { endpoints: vec![endpoint.to_owned()], ..EtcdConfig::default() }
    }

    #[test]
    fn an_unusable_endpoint_is_refused_before_any_call() {
        for bad in [
            "",
            "http://",
            "http://:1",
            "http://host",
            "host:1",
            "http://host:0",
            "http://host:99999",
            "ftp://h:1",
            "http://a b:1",
            "http://h:1,http://g:2",
            "http://h:1/path:2",
            "https://host:1",
        ] {
            assert!(matches!(with(bad).check(), Err(Error::BadEndpoint { .. })), "{bad}");
        }
        for good in ["http://127.0.0.1:2379", "http://etcd-0:2379", "http://[::1]:2379/"] {
            with(good).check().unwrap();
        }
        assert!(EtcdConfig { endpoints: Vec::new(), ..EtcdConfig::default() }.check().is_err());
        let tls = Some(TlsConfig::default());
        EtcdConfig { tls: tls.clone(), ..with("https://host:1") }.check().unwrap();
        assert!(EtcdConfig { tls, ..with("http://host:1") }.check().is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let user = Some(("root".to_owned(), "hunter2".to_owned()));
        let identity = Some((Vec::new(), b"hunter2".to_vec()));
        let tls = Some(TlsConfig { authorities: Vec::new(), identity });
        let config = EtcdConfig { user, tls, ..with("https://host:1") };
        let store = crate::EtcdStore::new(config.clone()).unwrap();
        let shown = format!("{config:?} {store:?}");
        assert!(shown.contains("host:1") && !shown.contains("hunter2"), "{shown}");
    }
}
