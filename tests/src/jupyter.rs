//! JupyterLab on a free port, with a token of its own, in a user's place.

use std::{fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    env::Env,
    http::{Address, Request},
    process::Child,
    python::programs,
    wait_for,
};

const TOKEN: &str = "jupyter-token-of-a-test";

/// A running server; it and its kernels end with it.
#[derive(Debug)]
pub struct Jupyter {
    server: Child,
    port: u16,
}

impl Jupyter {
    /// Starts JupyterLab on a folder.
    ///
    /// # Errors
    /// It is not installed or does not answer within a minute.
    pub fn start(env: &Env, folder: &Path) -> Result<Self> {
        let runtime = env.path("jupyter-runtime");
        // Else the first thing a picture of it shows is a question about news.
        env.write(
            "home/.jupyter/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings",
            r#"{"fetchNews": "false", "checkForUpdates": false}"#,
        )?;
        let mut command = env.command(programs()?.join("jupyter"));
        command
            .args(["lab", "--no-browser", "--allow-root"])
            .args(["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"])
            .arg(format!("--IdentityProvider.token={TOKEN}"))
            .arg(format!("--ServerApp.root_dir={}", folder.display()))
            .env("JUPYTER_RUNTIME_DIR", &runtime)
            .env("PATH", path_with_venv()?)
            .stdin(Stdio::null());
        let mut server = Child::start(&mut command, &env.logs(), "jupyter")?;
        let port = wait_for("JupyterLab", Duration::from_secs(60), || {
            if !server.is_running()? {
                anyhow::bail!("it ended");
            }
            let Some(port) = port_in(&runtime)? else {
                return Ok(None);
            };
            let request = Request::new("GET", &format!("/api/status?token={TOKEN}"));
            let answer = request.send(&Address::Port(port))?;
            Ok((answer.status == 200).then_some(port))
        })?;
        Ok(Self { server, port })
    }

    /// Returns the address of a notebook in it.
    #[must_use]
    pub fn notebook(&self, name: &str) -> String {
        let port = self.port;
        format!("http://localhost:{port}/lab/tree/{name}?token={TOKEN}")
    }

    /// Returns the server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}

fn path_with_venv() -> Result<String> {
    let inherited = std::env::var("PATH").unwrap_or_default();
    Ok(format!("{}:{inherited}", programs()?.display()))
}

/// The server writes `jpserver-<pid>.json` when it listens; its port is in it.
fn port_in(runtime: &Path) -> Result<Option<u16>> {
    let Ok(entries) = fs::read_dir(runtime) else {
        return Ok(None);
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("jpserver-") && name.ends_with(".json") {
            let info: Value = serde_json::from_slice(&fs::read(entry.path())?)?;
            let port = info.get("port").and_then(Value::as_u64);
            return Ok(Some(u16::try_from(port.context("no port")?)?));
        }
    }
    Ok(None)
}
