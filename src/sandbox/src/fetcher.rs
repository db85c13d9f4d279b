//! The agent's fetcher: brings what a command names by URI into its run directory before it starts, as Mesos'
//! own does: copied or downloaded, made executable or unpacked, from a cache if it may be.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    fs,
    hash::{Hash as _, Hasher as _},
    io,
    path::{Component, Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use overlord_mesos::v1::CommandUri;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// The largest file that is fetched.
const LARGEST: u64 = 2 << 30;
/// For one URI, with unpacking.
const LIMIT: Duration = Duration::from_secs(300);
/// For a server to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// What a cache holds before nothing more goes in.
const CACHE: u64 = 2 << 30;

/// Why something was not fetched. It stands in the run directory's `stderr`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("'{0}' names no file")]
    NoName(String),
    #[error("'{0}' is relative; an agent knows no place for it to start from")]
    Relative(String),
    #[error("output file '{0}' leaves the run directory")]
    Outside(String),
    #[error("'{uri}' is not there: {source}")]
    Read {
        uri: String,
        #[source]
        source: io::Error,
    },
    #[error("'{uri}' is not answered: {source}")]
    Request {
        uri: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("'{uri}' is answered with {status}")]
    Status { uri: String, status: u16 },
    #[error("'{0}' is larger than {LARGEST} bytes")]
    TooLarge(String),
    #[error("'{uri}' did not come within {} s", LIMIT.as_secs())]
    TooSlow { uri: String },
    #[error("{tool} fails for '{uri}': {why}")]
    Tool { tool: &'static str, uri: String, why: String },
    #[error("cannot write {}: {source}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Fetches for one launcher.
#[derive(Debug)]
pub(crate) struct Fetcher {
    http: Option<reqwest::Client>,
    /// One download of a cached file at a time.
    cached: Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
}

impl Fetcher {
    pub(crate) fn new() -> Self {
        let http = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT).build().ok();
        Self { http, cached: Mutex::default() }
    }

    /// Fetches all of them, in order.
    pub(crate) async fn fetch(
        &self,
        uris: &[CommandUri],
        directory: &Path,
        cache: &Path,
    ) -> Result<(), FetchError> {
        for uri in uris {
            let one = self.fetch_one(uri, directory, cache);
            tokio::time::timeout(LIMIT, one)
                .await
                .map_err(|_| FetchError::TooSlow { uri: uri.value.clone() })??;
        }
        Ok(())
    }

    async fn fetch_one(&self, uri: &CommandUri, directory: &Path, cache: &Path) -> Result<(), FetchError> {
        let target = directory.join(target_name(uri)?);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)
                .map_err(|source| FetchError::Write { path: target.clone(), source })?;
        }
        match Place::of(&uri.value)? {
            Place::File(path) => {
                check_size(&path, &uri.value)?;
                copy(&path, &target, &uri.value).await?;
            }
            Place::Web => {
                let stored =
                    if uri.cache.unwrap_or(false) { self.cached(&uri.value, cache).await? } else { None };
                match stored {
                    Some(stored) => copy(&stored, &target, &uri.value).await?,
                    None => self.download_beside(&uri.value, &target).await?,
                }
            }
        }
        if uri.executable.unwrap_or(false) {
            make_executable(&target)
        } else if uri.extract.unwrap_or(true) {
            unpack(&target, directory, &uri.value).await
        } else {
            Ok(())
        }
    }

    /// The file in the cache, downloaded by whoever wants it first. `None`: the cache is full.
    async fn cached(&self, uri: &str, cache: &Path) -> Result<Option<PathBuf>, FetchError> {
        let mut hasher = DefaultHasher::new();
        uri.hash(&mut hasher);
        let path = cache.join(format!("{:016x}", hasher.finish()));
        let lock = {
            let mut locks = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(path.clone()).or_default())
        };
        let _alone = lock.lock().await;
        if path.exists() {
            return Ok(Some(path));
        }
        let write = |source| FetchError::Write { path: path.clone(), source };
        fs::create_dir_all(cache).map_err(write)?;
        let held: u64 = fs::read_dir(cache)
            .map_err(write)?
            .filter_map(|entry| entry.ok()?.metadata().ok().map(|data| data.len()))
            .sum();
        if held >= CACHE {
            return Ok(None);
        }
        self.download(uri, &path).await?;
        Ok(Some(path))
    }

    /// Downloads to the target itself. An executable is copied once more: a file that this process wrote could
    /// still be open for writing in a child that is just being forked, and would be refused as busy.
    async fn download_beside(&self, uri: &str, target: &Path) -> Result<(), FetchError> {
        let mut beside = target.as_os_str().to_owned();
        beside.push(".fetched");
        let beside = PathBuf::from(beside);
        self.download(uri, &beside).await?;
        copy(&beside, target, uri).await?;
        fs::remove_file(&beside).map_err(|source| FetchError::Write { path: beside.clone(), source })
    }

    /// Downloads; the file is there as a whole or not at all.
    async fn download(&self, uri: &str, path: &Path) -> Result<(), FetchError> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".part");
        let partial = PathBuf::from(partial);
        let outcome = match &self.http {
            Some(http) if uri.starts_with("http://") => get(http, uri, &partial).await,
            _ => curl(uri, &partial).await,
        };
        let renamed = outcome.and_then(|()| {
            fs::rename(&partial, path).map_err(|source| FetchError::Write { path: path.to_owned(), source })
        });
        if renamed.is_err() {
            drop(fs::remove_file(&partial));
        }
        renamed
    }
}

/// Where a URI leads.
enum Place {
    File(PathBuf),
    Web,
}

impl Place {
    fn of(uri: &str) -> Result<Self, FetchError> {
        if let Some(path) = uri.strip_prefix("file://") {
            let path = path.strip_prefix("localhost").unwrap_or(path);
            return Ok(Self::File(path.into()));
        }
        if uri.contains("://") {
            return Ok(Self::Web);
        }
        if uri.starts_with('/') {
            Ok(Self::File(uri.into()))
        } else {
            Err(FetchError::Relative(uri.to_owned()))
        }
    }
}

/// The name in the run directory: as wished, or the last part of the URI.
fn target_name(uri: &CommandUri) -> Result<PathBuf, FetchError> {
    let wished = uri.output_file.as_deref().filter(|name| !name.is_empty());
    let name = if let Some(name) = wished { name } else { last_part(&uri.value)? };
    let inside =
        Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if inside { Ok(name.into()) } else { Err(FetchError::Outside(name.to_owned())) }
}

fn last_part(uri: &str) -> Result<&str, FetchError> {
    let path = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    match path.rsplit_once('/') {
        Some((_, last)) if !last.is_empty() => Ok(last),
        _ => Err(FetchError::NoName(uri.to_owned())),
    }
}

fn check_size(path: &Path, uri: &str) -> Result<(), FetchError> {
    let data = fs::metadata(path).map_err(|source| FetchError::Read { uri: uri.to_owned(), source })?;
    if data.len() > LARGEST { Err(FetchError::TooLarge(uri.to_owned())) } else { Ok(()) }
}

async fn copy(from: &Path, to: &Path, uri: &str) -> Result<(), FetchError> {
    let mut command = Command::new("cp");
    command.arg("-rL").arg("--").arg(from).arg(to);
    run("cp", command, uri).await
}

async fn get(http: &reqwest::Client, uri: &str, path: &Path) -> Result<(), FetchError> {
    let request = |source| FetchError::Request { uri: uri.to_owned(), source };
    let write = |source| FetchError::Write { path: path.to_owned(), source };
    let response = http.get(uri).send().await.map_err(request)?;
    let status = response.status();
    if !status.is_success() {
        return Err(FetchError::Status { uri: uri.to_owned(), status: status.as_u16() });
    }
    let mut file = tokio::fs::File::create(path).await.map_err(write)?;
    let mut size = 0_u64;
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(request)?;
        size += chunk.len() as u64;
        if size > LARGEST {
            return Err(FetchError::TooLarge(uri.to_owned()));
        }
        file.write_all(&chunk).await.map_err(write)?;
    }
    file.flush().await.map_err(write)
}

/// For https and ftp, which Mesos' fetcher leaves to libcurl, too.
async fn curl(uri: &str, path: &Path) -> Result<(), FetchError> {
    let mut command = Command::new("curl");
    command.args(["--fail", "--silent", "--show-error", "--location", "--max-filesize"]);
    command.arg(LARGEST.to_string()).arg("--output").arg(path).arg("--").arg(uri);
    run("curl", command, uri).await
}

fn make_executable(path: &Path) -> Result<(), FetchError> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(|source| FetchError::Write { path: path.to_owned(), source })
}

/// Unpacks what looks like an archive by its name; the archive stays.
async fn unpack(file: &Path, directory: &Path, uri: &str) -> Result<(), FetchError> {
    const TAR: [&str; 8] = [".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".tar.zst"];
    let name = file.to_string_lossy();
    if TAR.iter().any(|end| name.ends_with(end)) {
        let mut command = Command::new("tar");
        command.arg("-C").arg(directory).arg("-xf").arg(file);
        run("tar", command, uri).await
    } else if name.ends_with(".zip") {
        let mut command = Command::new("unzip");
        command.args(["-q", "-o", "-d"]).arg(directory).arg(file);
        run("unzip", command, uri).await
    } else if name.ends_with(".gz") {
        let mut command = Command::new("gzip");
        command.args(["-d", "-k", "-f"]).arg(file);
        run("gzip", command, uri).await
    } else {
        Ok(())
    }
}

async fn run(tool: &'static str, mut command: Command, uri: &str) -> Result<(), FetchError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let failed = |why: String| FetchError::Tool { tool, uri: uri.to_owned(), why };
    let output = command.output().await.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(said.lines().next().unwrap_or("no reason given").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(value: &str) -> CommandUri {
        CommandUri { value: value.to_owned(), ..CommandUri::default() }
    }

    #[test]
    fn a_file_is_named_after_the_last_part_of_its_uri_unless_it_has_a_name() {
        assert_eq!(target_name(&uri("http://host:1/a/b.tar?x=1")).unwrap(), Path::new("b.tar?x=1"));
        assert_eq!(target_name(&uri("/opt/tool")).unwrap(), Path::new("tool"));
        let named = CommandUri { output_file: Some("bin/x".to_owned()), ..uri("http://host/") };
        assert_eq!(target_name(&named).unwrap(), Path::new("bin/x"));
        assert!(matches!(target_name(&uri("http://host")), Err(FetchError::NoName(_))));
    }

    #[test]
    fn an_output_file_stays_in_the_run_directory() {
        for name in ["../x", "/etc/x", "a/../../x"] {
            let named = CommandUri { output_file: Some(name.to_owned()), ..uri("/opt/tool") };
            assert!(matches!(target_name(&named), Err(FetchError::Outside(_))), "{name}");
        }
    }

    #[test]
    fn a_relative_path_has_nowhere_to_start_from() {
        assert!(matches!(Place::of("tool"), Err(FetchError::Relative(_))));
    }
}
