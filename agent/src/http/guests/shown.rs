//! What a guest gets to see of the agent's answers.
//!
//! Called by `guests`. Invariants: a run is shown without its environment and its place on the node; a share of
//! one stream shows neither the others nor their sizes; of a failure, or of why a run stands, goes out a
//! sentence of ours, because the agent's own names the owner's paths.

use axum::{
    Json,
    body::{Body, to_bytes},
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use hpcclient_protocol::{ApiError, ErrorCode, Frame, FrameDecoder, Run, RunState, StreamName};
use http::{HeaderMap, header};

use super::Failure;
use crate::shares::Grant;

/// Returns an answer that is a run, without what is not for guests.
pub(super) async fn shown(answer: Response, grant: &Grant) -> Result<Response, Failure> {
    let body = to_bytes(answer.into_body(), MAX_RUN).await;
    let run = body
        .ok()
        .and_then(|body| serde_json::from_slice::<Run>(&body).ok());
    let run =
        run.ok_or_else(|| Failure(ApiError::new(ErrorCode::Internal, "the run cannot be read")))?;
    Ok(Json(stripped(run, grant)).into_response())
}

/// Returns a run without its environment, its place on the node, and the streams that are not shared.
fn stripped(mut run: Run, grant: &Grant) -> Run {
    run.spec.env.clear();
    run.spec.session = None;
    run.spec.cwd = None;
    run.cwd_after = None;
    run.pid = None;
    run.reason = run.reason.map(|_| reason(run.state).to_owned());
    for sizes in [&mut run.sizes, &mut run.durable] {
        for (name, size) in [
            (StreamName::Stdout, &mut sizes.stdout),
            (StreamName::Stderr, &mut sizes.stderr),
            (StreamName::Tty, &mut sizes.tty),
        ] {
            if !grant.shows(name) {
                *size = 0;
            }
        }
    }
    run
}

pub(super) fn shown_frames(body: Body, grant: Grant) -> Body {
    let mut decoder = FrameDecoder::default();
    Body::from_stream(body.into_data_stream().map(move |piece| {
        decoder.push(&piece.map_err(std::io::Error::other)?);
        let mut shown = BytesMut::new();
        while let Some(frame) = decoder.next_frame().map_err(std::io::Error::other)? {
            if let Some(frame) = shown_frame(frame, &grant) {
                frame.encode(&mut shown);
            }
        }
        Ok::<_, std::io::Error>(shown.freeze())
    }))
}

fn shown_frame(frame: Frame, grant: &Grant) -> Option<Frame> {
    match frame {
        Frame::Data { stream, .. } | Frame::Gap { stream, .. } if !grant.shows(stream) => None,
        Frame::State(run) => Some(Frame::State(Box::new(stripped(*run, grant)))),
        Frame::End(run) => Some(Frame::End(Box::new(stripped(*run, grant)))),
        Frame::Data { .. } | Frame::Gap { .. } | Frame::Resize(_) | Frame::Ping => Some(frame),
    }
}

pub(super) fn kept(headers: &HeaderMap) -> HeaderMap {
    let names = [
        header::CONTENT_TYPE,
        header::X_CONTENT_TYPE_OPTIONS,
        header::CONTENT_SECURITY_POLICY,
    ];
    let kept = names
        .into_iter()
        .filter_map(|name| Some((name.clone(), headers.get(&name)?.clone())));
    kept.collect()
}

/// Why a run stands or could not start, in words that name nothing of the owner's.
const fn reason(state: RunState) -> &'static str {
    match state {
        RunState::Stalled => "its output cannot be stored at the moment",
        RunState::Orphaned => "its supervisor is gone, so its output is not stored any more",
        RunState::Lost => "it is gone, and nobody saw how it ended",
        RunState::Queued | RunState::Running | RunState::Exited => {
            "something went wrong; its owner can see what"
        }
    }
}

/// Returns a failure of the agent's own route in words that name nothing of the owner's.
pub(super) async fn plain(answer: Response) -> Failure {
    let body = to_bytes(answer.into_body(), MAX_ERROR).await.ok();
    let said = body.and_then(|body| serde_json::from_slice::<ApiError>(&body).ok());
    let code = said.map_or(ErrorCode::Internal, |error| error.code);
    sentence(code)
}

/// Returns a failure of this kind in words that name nothing of the owner's.
pub(super) fn sentence(code: ErrorCode) -> Failure {
    let what = match code {
        ErrorCode::NotFound => return super::hidden(),
        ErrorCode::BadRequest => "the request cannot be understood",
        ErrorCode::Forbidden => "this share does not allow it",
        ErrorCode::Conflict => "the run has ended, or is not what the request assumes",
        ErrorCode::OtherNode => "the run lives on another node",
        ErrorCode::TooLarge => "the request is larger than the limit",
        ErrorCode::BadOffset => "the offset lies beyond the end, or its bytes are gone",
        ErrorCode::NoSpace => "the owner's disk is full",
        ErrorCode::Unavailable => "the owner's agent is busy; try again",
        _ => {
            tracing::warn!(?code, "a guest's request failed");
            "the owner's agent met a failure"
        }
    };
    Failure(ApiError::new(code, what))
}

const MAX_ERROR: usize = 64 * 1024;

/// A run's spec may be half a megabyte.
const MAX_RUN: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hpcclient_protocol::{RunId, live::Access};

    use super::{super::ask::tests::grant, *};

    #[test]
    fn a_guest_sees_no_environment_and_no_other_stream() {
        let json = serde_json::json!({
            "id": RunId::random(), "spec": {"command": {"shell": "x"}, "env": {"TOKEN": "secret"}, "cwd": "/home/alice/p",
            "session": "nb-1"}, "state": "exited", "createdMs": 0, "host": "h", "pid": 7, "cwdAfter": "/home/alice", "reason": "cannot enter /home/alice/p",
            "sizes": {"stdout": 5, "stderr": 6, "tty": 0}, "durable": {"stdout": 5, "stderr": 6, "tty": 0},
        });
        let run: Run = serde_json::from_value(json).unwrap();
        let part = grant(Access::View, &[StreamName::Stdout]);
        let text = serde_json::to_string(&stripped(run, &part)).unwrap();
        for secret in [
            "secret",
            "TOKEN",
            "alice",
            "nb-1",
            "\"stderr\":6",
            "\"pid\"",
        ] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        let data = |stream| Frame::Data {
            stream,
            offset: 0,
            bytes: Bytes::from_static(b"x"),
        };
        assert!(shown_frame(data(StreamName::Stdout), &part).is_some());
        assert!(shown_frame(data(StreamName::Stderr), &part).is_none());
        let gap = Frame::Gap {
            stream: StreamName::Stderr,
            offset: 0,
            to: 9,
        };
        assert!(shown_frame(gap, &part).is_none());
    }

    #[tokio::test]
    async fn a_failure_keeps_its_code_and_loses_the_owners_words() {
        let error = ApiError::new(ErrorCode::Conflict, "cannot enter /home/alice/p")
            .hint("run `cd /home/alice`");
        let Failure(told) = plain(Failure(error).into_response()).await;
        assert_eq!(told.code, ErrorCode::Conflict);
        assert!(!format!("{told:?}").contains("alice"), "{told:?}");
    }
}
