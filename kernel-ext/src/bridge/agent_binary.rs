//! Finds the `hpcagent` binary that is installed on nodes.

use std::path::{Path, PathBuf};

use hpcclient_protocol::{ApiError, ErrorCode};
use hpcclient_ssh::AgentBinary;

use crate::env_vars;

/// Returns the agent's binary: of the environment, of the installed package, or beside this one.
///
/// # Errors
/// `AgentFailed` lists every place that was searched.
pub fn find() -> Result<AgentBinary, ApiError> {
    if let Some(path) = env_vars::path(env_vars::AGENT) {
        // Who names one wants that one; another would be a surprise.
        return in_places(&[path]);
    }
    let exe = std::env::current_exe().ok();
    in_places(&places(
        exe.as_deref(),
        env_vars::path(env_vars::SHARE).as_deref(),
    ))
}

fn places(exe: Option<&Path>, share: Option<&Path>) -> Vec<PathBuf> {
    // Login nodes run Linux; a Mac's own architecture says nothing about them.
    let arch = if cfg!(target_os = "linux") {
        std::env::consts::ARCH
    } else {
        "x86_64"
    };
    let below = format!("agent/{arch}-linux/hpcagent");
    let mut places: Vec<_> = share.map(|share| share.join(&below)).into_iter().collect();
    if let Some(dir) = exe.and_then(Path::parent) {
        if let Some(prefix) = dir.parent() {
            places.push(prefix.join("share/hpcclient").join(&below));
        }
        places.push(dir.join("hpcagent"));
    }
    places
}

fn in_places(places: &[PathBuf]) -> Result<AgentBinary, ApiError> {
    if let Some(path) = places.iter().find(|path| path.is_file()) {
        return Ok(AgentBinary { path: path.clone() });
    }
    let mut error = ApiError::new(
        ErrorCode::AgentFailed,
        "the agent's binary is not installed here",
    );
    error.causes = places
        .iter()
        .map(|path| format!("there is no file {}", path.display()))
        .collect();
    Err(error.hint(format!(
        "install hpcclient again, or set {}",
        env_vars::AGENT
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_lists_every_place() {
        let dir = tempfile::tempdir().unwrap();
        let exe = dir.path().join("bin/hpcclient");
        let places = places(Some(&exe), Some(&dir.path().join("data")));
        let error = in_places(&places).unwrap_err();
        assert_eq!((places.len(), error.causes.len()), (3, 3));
        assert_eq!(error.code, ErrorCode::AgentFailed);
        std::fs::create_dir_all(exe.parent().unwrap()).unwrap();
        std::fs::write(exe.with_file_name("hpcagent"), "").unwrap();
        assert_eq!(
            in_places(&places).unwrap().path,
            exe.with_file_name("hpcagent")
        );
    }
}
