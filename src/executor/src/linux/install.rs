//! Engine binaries from the catalogue: one download a host, checked, and whole or not there.

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use super::files::{self, DIR_MODE, Lock};
use crate::{Instance, Layout, MachineError};

/// A server binary is some ten MiB.
const MAX_BINARY: u64 = 256 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence of the server that ends a download.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const DOWNLOAD_TIMEOUT: Duration = Duration::from_mins(10);

/// Others of this host may be downloading the same file.
const LOCK_PATIENCE: Duration = Duration::from_mins(12);

/// Where a missing binary comes from: one executable file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// `http://...`
    pub url: String,
    /// 64 hex digits.
    pub sha256: String,
}

/// Makes sure that the engine's binary is there.
pub(crate) async fn ensure(
    layout: &Layout,
    instance: &Instance,
    install: Option<&Install>,
) -> Result<(), MachineError> {
    let binary = layout.binary(instance);
    if binary.is_file() {
        return Ok(());
    }
    let Some(install) = install else {
        let (engine, version) = (instance.engine().binary(), instance.engine_version.clone());
        return Err(MachineError::BinaryMissing { path: binary, engine, version });
    };
    let bin = layout.binary_dir(instance);
    files::make_dir(&bin)?;
    let _lock = Lock::acquire(&bin.join(".install.lock"), LOCK_PATIENCE).await?;
    // Another executor may have brought it while we waited.
    if binary.is_file() {
        return Ok(());
    }
    tracing::info!(url = install.url, path = %binary.display(), "installing");
    match tokio::time::timeout(DOWNLOAD_TIMEOUT, download(install, &bin, &binary)).await {
        Ok(result) => result,
        Err(_) => Err(failed(install, &format!("not done after {} s", DOWNLOAD_TIMEOUT.as_secs()))),
    }
}

async fn download(install: &Install, bin: &Path, binary: &Path) -> Result<(), MachineError> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build()
        .map_err(|error| failed(install, &error))?;
    let answer = client.get(&install.url).send().await.and_then(reqwest::Response::error_for_status);
    let mut answer = answer.map_err(|error| failed(install, &crate::machine::chain(&error.without_url())))?;
    let file_error = |source: io::Error| MachineError::file("write", binary)(source);
    // Removed again unless it is renamed in the end.
    let mut file = tempfile::Builder::new().prefix(".download").tempfile_in(bin).map_err(file_error)?;
    let mut digest = Sha256::new();
    let mut length = 0;
    while let Some(chunk) =
        answer.chunk().await.map_err(|error| failed(install, &crate::machine::chain(&error.without_url())))?
    {
        length += chunk.len() as u64;
        if length > MAX_BINARY {
            return Err(failed(install, &format!("larger than {} MiB", MAX_BINARY >> 20)));
        }
        digest.update(&chunk);
        file.write_all(&chunk).map_err(file_error)?;
    }
    let found = hex(&digest.finalize());
    if !found.eq_ignore_ascii_case(install.sha256.trim()) {
        return Err(MachineError::WrongDigest {
            url: install.url.clone(),
            found,
            expected: install.sha256.clone(),
        });
    }
    let keep = || -> io::Result<()> {
        file.as_file().set_permissions(Permissions::from_mode(DIR_MODE))?;
        file.as_file().sync_all()?;
        // Closed before it is renamed: a file open for writing cannot be executed.
        let path = file.into_temp_path();
        fs::rename(&path, binary)?;
        files::sync_dir(bin)
    };
    keep().map_err(file_error)
}

fn failed(install: &Install, reason: &dyn ToString) -> MachineError {
    MachineError::Download { url: install.url.clone(), reason: reason.to_string() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
        text
    })
}
