//! Finds the running bridge, or starts one: what every command does first.
//!
//! It is blocking and needs no runtime, so that `hpcclient bridge --ensure` is as fast as a process
//! can start.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hpcclient_protocol::{ApiError, ErrorCode, bridge::BridgeAddress};

use super::place::Place;

/// How long a bridge may take to show its address.
const START: Duration = Duration::from_secs(10);

/// How often the address is looked for while a bridge starts.
const STEP: Duration = Duration::from_millis(3);

/// How much of a failed bridge's log is shown, in lines.
const LOG_LINES: usize = 3;

/// Returns the address of the user's bridge; starts one, detached, when none runs.
///
/// # Errors
/// The bridge's folder cannot be used, or the bridge does not start.
pub fn ensure() -> Result<BridgeAddress, ApiError> {
    let place = Place::open()?;
    if let Some(address) = place.running()? {
        return Ok(address);
    }
    let mut child = start(&place)?;
    let give_up = Instant::now() + START;
    loop {
        if let Some(address) = place.running()? {
            return Ok(address);
        }
        // A bridge that finds another one holding the lock ends well, and the other one's address
        // is what is waited for then.
        let ended = child.try_wait().ok().flatten();
        if ended.is_some_and(|status| !status.success()) || Instant::now() > give_up {
            let error = ApiError::new(ErrorCode::Internal, "the bridge did not start");
            return Err(with_log(error, &place));
        }
        std::thread::sleep(STEP);
    }
}

/// Returns the address of the user's bridge if one runs.
///
/// # Errors
/// The bridge's folder cannot be used.
pub fn running() -> Result<Option<BridgeAddress>, ApiError> {
    Place::open()?.running()
}

fn start(place: &Place) -> Result<Child, ApiError> {
    let failed = |error: std::io::Error| {
        ApiError::new(ErrorCode::Internal, "cannot start the bridge").caused_by(&error)
    };
    let log = place.open_log()?;
    let exe = std::env::current_exe().map_err(failed)?;
    let errors = log.try_clone().map_err(failed)?;
    Command::new(exe)
        .args(["bridge", "--daemon"])
        // It outlives this directory and this terminal.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(failed)
}

fn with_log(mut error: ApiError, place: &Place) -> ApiError {
    let text = fs::read_to_string(place.log()).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(LOG_LINES).collect();
    error
        .causes
        .extend(lines.into_iter().rev().map(str::to_owned));
    error.hint(format!("the log is {}", place.log().display()))
}
