//! How the command line tells a failure: words on stderr and an exit code.
//!
//! Invariants: stdout carries data only; a reader that closed its pipe is not an error; text of a
//! remote machine cannot act on the terminal.

use std::{io, io::Write as _};

use hpcclient_client::ClientError;
use hpcclient_protocol::{ApiError, ErrorCode};
use hpcclient_ssh::visible;

/// Prints an error and returns the exit code.
#[must_use]
pub fn report(error: &anyhow::Error) -> u8 {
    if is_broken_pipe(error) {
        return 0;
    }
    let error = to_api_error(error);
    print(&error);
    error.code.exit_code()
}

/// Prints an error to stderr.
pub fn print(error: &ApiError) {
    // Nobody is left to be told when stderr itself fails.
    let _ = writeln!(
        io::stderr().lock(),
        "error: {}",
        visible(&error.to_string())
    );
}

/// Prints to stderr what went wrong beside the command's own result.
pub fn warn(what: &str, why: &dyn std::fmt::Display) {
    let why = visible(&why.to_string());
    // As above.
    let _ = writeln!(io::stderr().lock(), "warning: {what}: {why}");
}

/// Returns the error as every edge tells it, with contexts and sources as causes.
#[must_use]
pub fn to_api_error(error: &anyhow::Error) -> ApiError {
    let (mut code, mut node) = (ErrorCode::Internal, None);
    let (mut lines, mut hints) = (Vec::new(), Vec::new());
    for cause in error.chain() {
        let api = cause.downcast_ref::<ApiError>().or_else(|| {
            let client = cause.downcast_ref::<ClientError>();
            client.and_then(|error| match error {
                ClientError::Api(api) => Some(api.as_ref()),
                _ => None,
            })
        });
        if let Some(api) = api {
            code = api.code;
            node.clone_from(&api.node);
            lines.push(api.message.clone());
            lines.extend(api.causes.iter().cloned());
            hints.extend(api.hints.iter().cloned());
            break;
        }
        if let Some(client) = cause.downcast_ref::<ClientError>() {
            code = client.code();
        }
        lines.push(cause.to_string());
    }
    lines.dedup();
    let mut lines = lines.into_iter();
    let mut api = ApiError::new(code, lines.next().unwrap_or_default());
    api.causes = lines.collect();
    api.hints = hints;
    api.node = node;
    api
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_code_and_the_hint_survive_contexts() {
        let refused = ApiError::new(ErrorCode::AuthFailed, "login refused").hint("try a key");
        let refused = refused.on_node("login2");
        let error = Err::<(), _>(ClientError::from(refused))
            .context("cannot connect to x")
            .unwrap_err();
        let api = to_api_error(&error);
        assert_eq!(api.code.exit_code(), 255);
        assert_eq!(api.node.as_deref(), Some("login2"));
        assert_eq!(
            api.to_string(),
            "cannot connect to x\n  caused by: login refused\n\nhint: try a key"
        );
    }

    #[test]
    fn a_plain_error_is_exit_code_1_and_a_closed_pipe_is_none() {
        let plain = anyhow::anyhow!("no such thing");
        assert_eq!(to_api_error(&plain).code.exit_code(), 1);
        let pipe = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(report(&pipe.context("cannot write")), 0);
    }
}
