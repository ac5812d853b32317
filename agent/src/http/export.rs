//! `GET /v1/runs/{id}/export`: a run's output as a file to take away.

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
    routing,
};
use futures_util::stream;
#[cfg(test)]
use hpcclient_protocol::ApiError;
use hpcclient_protocol::{Run, RunId, StreamName};
use serde::Deserialize;
#[cfg(test)]
use utoipa::IntoParams;

use super::{
    AppState,
    by::by,
    failure::Failure,
    streams::{UNTRUSTED, blocking},
};
use crate::{
    output::{Export, Form},
    runs::RunError,
};

/// Returns the routes of this file.
pub(super) fn router() -> Router<AppState> {
    Router::new().route("/v1/runs/{id}/export", routing::get(by(export)))
}

/// What `docs/openapi.json` says of this file.
#[cfg(test)]
#[derive(utoipa::OpenApi)]
#[openapi(paths(export))]
pub(super) struct Described;

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(IntoParams))]
#[serde(default)]
#[cfg_attr(test, into_params(parameter_in = Query))]
struct ExportQuery {
    /// The bytes, text without escape sequences, or an asciicast v2 recording of a console.
    #[serde(rename = "as")]
    #[cfg_attr(test, param(inline))]
    form: Form,
    /// Which stream; without it all of them in the order of writing.
    stream: Option<StreamName>,
}

/// What is stored of a run's output now, as a file.
#[cfg_attr(test, utoipa::path(
    get, path = "/v1/runs/{id}/export", operation_id = "exportRun", params(("id" = String, Path), ExportQuery),
    responses(
        (status = 200, content_type = "application/octet-stream"), (status = 404, body = ApiError),
        (status = 409, body = ApiError)
    )
))]
async fn export(
    State(state): State<AppState>,
    Path(id): Path<String>,
    query: Result<Query<ExportQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let (id, Query(ExportQuery { form, stream })) = (id.parse::<RunId>()?, query?);
    let (dir, run) = state.runs().folder(id).await?;
    if form == Form::Cast && run.spec.pty.is_none() {
        let what = "terminal";
        return Err(RunError::Without { id, what }.into());
    }
    let kind = match form {
        Form::Raw => "application/octet-stream",
        Form::Text => "text/plain; charset=utf-8",
        Form::Cast => "application/x-asciicast",
    };
    let name = format!("attachment; filename=\"{}\"", file_name(&run, form, stream));
    let export = blocking(move || Export::start(&dir, &run, form, stream)).await?;
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, UNTRUSTED, body(export, &state)).into_response())
}

/// Makes the body a piece at a time, each where it holds nobody up. One that fails is cut.
fn body(export: Export, state: &AppState) -> Body {
    let start = Some((export, state.stopping().clone()));
    Body::from_stream(stream::unfold(start, |place| async move {
        let (mut export, stopping) = place?;
        let cut = |why: &str| Some((Err(std::io::Error::other(why.to_owned())), None));
        let work = crate::tasks::blocking(move || export.next_piece().map(|piece| (piece, export)));
        match stopping.run_until_cancelled(work).await {
            Some(Ok(Ok((piece, export)))) => Some((Ok(piece?), Some((export, stopping)))),
            Some(Ok(Err(error))) => {
                tracing::warn!(%error, "an export was cut");
                cut(&error.to_string())
            }
            Some(Err(_)) => cut("an export failed"),
            None => cut("the agent is stopping"),
        }
    }))
}

/// Returns a name that is safe wherever it is saved.
fn file_name(run: &Run, form: Form, stream: Option<StreamName>) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name = run.name.as_deref().unwrap_or_default();
    let words: Vec<_> = name
        .split(|c| !is_plain(c))
        .filter(|word| !word.is_empty())
        .collect();
    let name = if words.is_empty() {
        format!("run-{}", run.id)
    } else {
        words.join("-")
    };
    let stream = stream.map_or(String::new(), |stream| format!("-{}", stream.as_str()));
    let ending = match form {
        Form::Raw => "raw",
        Form::Text => "txt",
        Form::Cast => "cast",
    };
    format!("{name}{stream}.{ending}")
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{Command, RunSpec};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_has_the_runs_name_where_that_is_safe() {
        let id = RunId::random();
        let run = json!({
            "id": id, "spec": RunSpec::new(Command::LoginShell), "state": "exited", "createdMs": 5, "host": "node",
        });
        let mut run: Run = serde_json::from_value(run).unwrap();
        let of = |run: &Run| file_name(run, Form::Text, Some(StreamName::Stdout));
        assert_eq!(of(&run), format!("run-{id}-stdout.txt"));
        for (name, file) in [
            ("my run", "my-run-stdout.txt"),
            ("../../etc/passwd", "etc-passwd-stdout.txt"),
            ("a\"\r\nset-cookie: b", "a-set-cookie-b-stdout.txt"),
        ] {
            run.name = Some(name.to_owned());
            assert_eq!(of(&run), file);
        }
        run.name = Some("…".to_owned());
        assert_eq!(file_name(&run, Form::Cast, None), format!("run-{id}.cast"));
    }
}
