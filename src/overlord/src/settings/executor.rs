//! `[executor]` and `[api]`: how agents get the binary, and where they reach this controller.

use std::net::SocketAddr;

use overlord_controllers::Sha256;

use super::{Origin, Resolver, args::ControllerArgs, file};
use crate::failure::Failure;

/// Path of the binary where nothing is said.
const INSTALLED: &str = "/usr/local/bin/overlord";

/// What Mesos' fetcher understands besides absolute paths (docs/fetcher.md).
const SCHEMES: [&str; 9] = ["http", "https", "ftp", "ftps", "file", "hdfs", "s3", "s3a", "s3n"];

/// `[api]`
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) listen: SocketAddr,
    /// `http://host:port`, when somebody said it.
    pub(crate) advertise: Option<String>,
}

/// `[executor]`
#[derive(Debug, Clone)]
pub(crate) struct Executor {
    pub(crate) binary: Delivery,
    pub(crate) etcd: Vec<String>,
    pub(crate) etcd_credentials: Option<String>,
}

/// How agents get the binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It lies there.
    Installed(String),
    /// They fetch it from this controller.
    Delivered,
    /// They fetch it from somewhere else.
    Mirror { url: String, sha256: Sha256 },
}

pub(super) fn api(r: &mut Resolver<'_>, args: &ControllerArgs, file: file::Api) -> Result<Api, Failure> {
    let listen =
        r.pick("api.listen", "listen", args.listen.clone(), file.listen, "127.0.0.1:8880".to_owned());
    let listen = listen
        .parse()
        .map_err(|_| r.refuse("no address to listen on", "write ip:port, such as 127.0.0.1:8880"))?;
    let advertise = r.pick_option("api.advertise", "advertise", args.advertise.clone(), file.advertise);
    let advertise = advertise.map(|text| advertised(r, &text)).transpose()?;
    Ok(Api { listen, advertise })
}

/// `host:port` or `http://host:port` as a URL without a slash in the end.
fn advertised(r: &Resolver<'_>, text: &str) -> Result<String, Failure> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let refuse = |why: &str| r.refuse(why, "write host:port, such as 10.0.0.5:8880");
    let url = reqwest::Url::parse(&with_scheme).map_err(|_| refuse("no address"))?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    if !plain {
        return Err(refuse("more than an address"));
    }
    let unspecified = match url.host() {
        Some(host) => matches!(host.to_string().as_str(), "0.0.0.0" | "[::]"),
        None => true,
    };
    if unspecified || url.port() == Some(0) {
        return Err(refuse("nobody can reach that"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

pub(super) fn executor(
    r: &mut Resolver<'_>,
    args: &ControllerArgs,
    file: file::Executor,
    endpoints: &[String],
    api: &Api,
) -> Result<Executor, Failure> {
    let binary = delivery(r, args, &file, api)?;
    let etcd =
        r.pick("executor.etcd", "executor_etcd", args.executor_etcd.clone(), file.etcd, endpoints.to_vec());
    let etcd = r.not_empty(etcd)?;
    let etcd_credentials = r.pick_option(
        "executor.etcd_credentials",
        "executor_etcd_credentials",
        args.executor_etcd_credentials.clone(),
        file.etcd_credentials,
    );
    Ok(Executor { binary, etcd, etcd_credentials })
}

/// One of three ways. Said in two places, the more specific place counts: a flag before a variable before the file.
fn delivery(
    r: &mut Resolver<'_>,
    args: &ControllerArgs,
    file: &file::Executor,
    api: &Api,
) -> Result<Delivery, Failure> {
    let path = r.pick_option("executor.path", "executor_path", args.executor_path.clone(), file.path.clone());
    let path_row = r.rows.len() - 1;
    let deliver = r.pick("executor.deliver", "executor_deliver", args.executor_deliver, file.deliver, false);
    let deliver_row = r.rows.len() - 1;
    let url = r.pick_option("executor.url", "executor_url", args.executor_url.clone(), file.url.clone());
    let url_row = r.rows.len() - 1;
    let sha256 = r.pick_option(
        "executor.sha256",
        "executor_sha256",
        args.executor_sha256.clone(),
        file.sha256.clone(),
    );
    let sha256_row = r.rows.len() - 1;

    let ways = [(path.is_some(), path_row), (deliver, deliver_row), (url.is_some(), url_row)];
    let rank = |row: usize| match r.rows[row].origin {
        Origin::Flag => 3,
        Origin::Variable => 2,
        Origin::File => 1,
        Origin::Default => 0,
    };
    let best = ways.iter().filter(|(said, _)| *said).map(|(_, row)| rank(*row)).max().unwrap_or(0);
    let chosen: Vec<usize> =
        ways.iter().filter(|(said, row)| *said && rank(*row) == best).map(|(_, row)| *row).collect();
    let chosen = match chosen[..] {
        [] => path_row,
        [one] => one,
        _ => {
            let keys: Vec<&str> = chosen.iter().map(|row| r.rows[*row].key.as_str()).collect();
            return Err(Failure::usage(
                format!("{} exclude each other", keys.join(" and ")),
                "say in one way how agents get the binary: path (it lies there), deliver (from this controller), or url",
            ));
        }
    };
    // What does not count is not in force.
    for (row, value) in [(path_row, ""), (deliver_row, "false"), (url_row, ""), (sha256_row, "")] {
        let belongs = row == chosen || (row == sha256_row && chosen == url_row);
        if !belongs {
            value.clone_into(&mut r.rows[row].value);
            r.rows[row].origin = Origin::Default;
        }
    }
    if chosen == deliver_row {
        return deliverable(api).map(|()| Delivery::Delivered);
    }
    if chosen == url_row {
        let url = url.unwrap_or_default();
        check_source(&url)?;
        let sha256 = sha256.ok_or_else(|| {
            Failure::usage(
                "executor.url without executor.sha256",
                "add the digest, as `sha256sum FILE` prints it",
            )
        })?;
        let sha256 = Sha256::parse(&sha256).ok_or_else(|| {
            Failure::usage("executor.sha256 is no digest of 64 hex digits", "take it from `sha256sum FILE`")
        })?;
        return Ok(Delivery::Mirror { url, sha256 });
    }
    if sha256.is_some() && url.is_none() {
        return Err(Failure::usage("executor.sha256 without executor.url", "say what it is the digest of"));
    }
    let path = path.unwrap_or_else(|| {
        INSTALLED.clone_into(&mut r.rows[path_row].value);
        INSTALLED.to_owned()
    });
    if !path.starts_with('/') {
        return Err(Failure::usage(
            format!("executor.path = {path:?} (from {}): not an absolute path", r.rows[path_row].origin),
            "name the binary as it is found on the agents",
        ));
    }
    Ok(Delivery::Installed(path))
}

/// Whether agents can fetch from this API at all.
fn deliverable(api: &Api) -> Result<(), Failure> {
    let ip = api.listen.ip();
    if api.advertise.is_some() || !(ip.is_loopback() || ip.is_unspecified()) {
        return Ok(());
    }
    let why = if ip.is_loopback() {
        "which only this machine reaches"
    } else {
        "which is no address that agents could ask"
    };
    Err(Failure::usage(
        format!("executor.deliver: agents cannot fetch the binary from the API at {}, {why}", api.listen),
        "let it listen on an address that agents reach ([api] listen), or say where they reach it ([api] advertise; \
         with every agent on this machine that may be a loopback address)",
    ))
}

fn check_source(url: &str) -> Result<(), Failure> {
    if url.starts_with('/') {
        return Ok(());
    }
    let known = url.split_once("://").is_some_and(|(scheme, _)| SCHEMES.contains(&scheme));
    if !known {
        return Err(Failure::usage(
            "executor.url is nothing that Mesos' fetcher understands",
            format!("write an absolute path, or a url that begins with one of: {}", SCHEMES.join(", ")),
        ));
    }
    file::check_no_secret("executor.url", url)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{origin, settings};
    use super::*;

    fn binary(flags: &[&str], file: &str) -> Result<Delivery, String> {
        settings(flags, file).map(|settings| settings.executor.binary).map_err(|failure| failure.message)
    }

    #[test]
    fn the_binary_lies_on_the_agents_unless_said_otherwise() {
        assert_eq!(binary(&[], ""), Ok(Delivery::Installed(INSTALLED.to_owned())));
        let elsewhere = Ok(Delivery::Installed("/opt/o".to_owned()));
        assert_eq!(binary(&[], "[executor]\npath = \"/opt/o\"\n"), elsewhere);
        assert!(
            binary(&[], "[executor]\npath = \"overlord\"\n").unwrap_err().contains("not an absolute path")
        );
    }

    #[test]
    fn delivery_needs_an_api_that_agents_reach() {
        let why = binary(&["--executor-deliver"], "").unwrap_err();
        assert!(why.contains("127.0.0.1:8880") && why.contains("only this machine"), "{why}");
        let why = binary(&["--executor-deliver", "--listen", "0.0.0.0:8880"], "").unwrap_err();
        assert!(why.contains("no address that agents could ask"), "{why}");
        let file = "[executor]\ndeliver = true\n[api]\nlisten = \"10.0.0.5:8880\"\n";
        assert_eq!(binary(&[], file), Ok(Delivery::Delivered));
        for advertise in
            ["10.0.0.5:8880", "http://overlord.internal:80", "https://o.example", "127.0.0.1:8880"]
        {
            let flags = ["--executor-deliver", "--advertise", advertise];
            assert_eq!(binary(&flags, ""), Ok(Delivery::Delivered), "{advertise}");
        }
    }

    #[test]
    fn what_is_advertised_is_an_address_and_nothing_else() {
        let advertise = |text: &str| settings(&["--advertise", text], "").map(|s| s.api.advertise.unwrap());
        assert_eq!(advertise("10.0.0.5:8880").unwrap(), "http://10.0.0.5:8880");
        assert_eq!(advertise("https://o.example/").unwrap(), "https://o.example");
        for bad in [
            "0.0.0.0:8880",
            "[::]:1",
            "x:0",
            "http://a:b@x:1",
            "http://x/y",
            "ftp://x:1",
            "a b",
            "http://x?y",
        ] {
            assert!(advertise(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mirror_needs_its_digest_and_may_hold_no_secret() {
        let digest = "aB".repeat(32);
        let with = |url: &str| binary(&["--executor-url", url, "--executor-sha256", &digest], "");
        for url in ["http://m/o", "hdfs://m/o", "file:///srv/o", "/srv/o"] {
            let sha256 = Sha256::parse(&digest).unwrap();
            assert_eq!(with(url), Ok(Delivery::Mirror { url: url.to_owned(), sha256 }));
        }
        for url in ["m/o", "gopher://m/o", "http://user:pass@m/o"] {
            let why = with(url).unwrap_err();
            assert!(!why.contains("pass@"), "{why}");
        }
        assert!(binary(&["--executor-url", "/srv/o"], "").unwrap_err().contains("without executor.sha256"));
        assert!(binary(&["--executor-sha256", &digest], "").unwrap_err().contains("without executor.url"));
        assert!(binary(&["--executor-url", "/o", "--executor-sha256", "12"], "").is_err());
    }

    #[test]
    fn one_way_counts_and_two_of_one_place_exclude_each_other() {
        let file = "[executor]\npath = \"/opt/o\"\n";
        let flags = ["--executor-deliver", "--advertise", "10.0.0.5:8880"];
        let both = settings(&flags, file).unwrap();
        assert_eq!(both.executor.binary, Delivery::Delivered, "a flag before the file");
        let path = both.rows.iter().find(|row| row.key == "executor.path").unwrap();
        assert_eq!((path.value.as_str(), origin(&both, "executor.path")), ("", Origin::Default));
        let file = "[executor]\npath = \"/opt/o\"\ndeliver = true\n";
        let why = binary(&[], file).unwrap_err();
        assert_eq!(why, "executor.path and executor.deliver exclude each other");
        let file = "[executor]\npath = \"/opt/o\"\ndeliver = false\n";
        assert_eq!(binary(&[], file), Ok(Delivery::Installed("/opt/o".to_owned())));
    }
}
