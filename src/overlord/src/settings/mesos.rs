//! `[mesos]`: the masters, and who we are to them.

use std::{path::PathBuf, time::Duration};

use overlord_mesos::http::{TlsConfig, TlsIdentity};

use super::{Resolver, args::ControllerArgs, file};
use crate::failure::Failure;

/// `[mesos]`
#[derive(Debug, Clone)]
pub(crate) struct Mesos {
    pub(crate) masters: Vec<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) framework: String,
    pub(crate) user: String,
    pub(crate) failover_timeout: Duration,
    pub(crate) principal: Option<String>,
    pub(crate) secret_file: Option<PathBuf>,
    /// When the masters are spoken to by TLS.
    pub(crate) tls: Option<TlsConfig>,
}

pub(super) fn mesos(
    r: &mut Resolver<'_>,
    args: &ControllerArgs,
    file: file::Mesos,
) -> Result<Mesos, Failure> {
    let masters =
        r.pick("mesos.masters", "mesos", args.mesos.clone(), file.masters, vec!["127.0.0.1:5050".to_owned()]);
    r.hide_secrets();
    let masters = r.not_empty(masters)?;
    let roles =
        r.pick("mesos.roles", "mesos_roles", args.mesos_roles.clone(), file.roles, vec!["*".to_owned()]);
    let roles = r.not_empty(roles)?;
    let framework =
        r.pick("mesos.framework", "framework", args.framework.clone(), file.framework, "overlord".to_owned());
    let user = r.pick("mesos.user", "mesos_user", args.mesos_user.clone(), file.user, "root".to_owned());
    let failover_timeout = r.pick(
        "mesos.failover_timeout",
        "failover_timeout",
        args.failover_timeout.clone(),
        file.failover_timeout,
        "21d".to_owned(),
    );
    let failover_timeout = r.duration(&failover_timeout)?;
    let principal =
        r.pick_option("mesos.principal", "mesos_principal", args.mesos_principal.clone(), file.principal);
    let secret_file = r.pick_option(
        "mesos.secret_file",
        "mesos_secret_file",
        args.mesos_secret_file.clone(),
        file.secret_file,
    );
    if secret_file.is_some() && principal.is_none() {
        return Err(Failure::usage("mesos.secret_file without mesos.principal", "say whose secret it is"));
    }
    let secret_file = secret_file.map(PathBuf::from);
    let tls = tls(r, args, file.ca_file, file.cert_file, file.key_file, &masters)?;
    Ok(Mesos { masters, roles, framework, user, failover_timeout, principal, secret_file, tls })
}

/// TLS is on when a certificate is named, or a master with https.
fn tls(
    r: &mut Resolver<'_>,
    args: &ControllerArgs,
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    masters: &[String],
) -> Result<Option<TlsConfig>, Failure> {
    let ca = r.pick_option("mesos.ca_file", "mesos_ca_file", args.mesos_ca_file.clone(), ca_file);
    let cert = r.pick_option("mesos.cert_file", "mesos_cert_file", args.mesos_cert_file.clone(), cert_file);
    let key = r.pick_option("mesos.key_file", "mesos_key_file", args.mesos_key_file.clone(), key_file);
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsIdentity { certificate_file: cert.into(), key_file: key.into() }),
        (None, None) => None,
        _ => {
            let why = "mesos.cert_file and mesos.key_file belong together";
            return Err(Failure::usage(why, "set both or none"));
        }
    };
    let https = masters.iter().any(|master| master.starts_with("https://"));
    if ca.is_none() && identity.is_none() && !https {
        return Ok(None);
    }
    Ok(Some(TlsConfig {
        ca_files: ca.map(PathBuf::from).into_iter().collect(),
        identity,
        ..TlsConfig::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::*;

    #[test]
    fn tls_is_on_when_a_certificate_or_an_https_master_is_named() {
        let tls = |flags: &[&str]| settings(flags, "").map(|settings| settings.mesos.tls);
        assert!(tls(&[]).unwrap().is_none());
        assert!(tls(&["--mesos", "https://m:5050"]).unwrap().is_some());
        let own = tls(&["--mesos-ca-file", "/ca", "--mesos-cert-file", "/c", "--mesos-key-file", "/k"]);
        let own = own.unwrap().unwrap();
        assert_eq!((own.ca_files, own.verify), (vec![PathBuf::from("/ca")], true));
        assert!(own.identity.is_some());
        assert!(tls(&["--mesos-cert-file", "/c"]).is_err());
    }
}
