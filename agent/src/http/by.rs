//! Handlers of one type: what axum makes of a route is then made once, and not again for each.
//!
//! Used by every file of routes as `routing::get(by(handler))`. A handler is as axum has it, extractors and all.

use std::{pin::Pin, sync::Arc};

use axum::{extract::Request, handler::Handler, response::Response};

/// An answer on its way.
type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Any handler of a router with this state; clones are the same.
pub(super) struct By<S>(Arc<dyn Fn(Request, S) -> Answer + Send + Sync>);

/// Returns a handler as the one type.
pub(super) fn by<H, T, S>(handler: H) -> By<S>
where
    H: Handler<T, S, Future = Answer> + Sync,
    S: 'static,
{
    By(Arc::new(move |request, state| {
        handler.clone().call(request, state)
    }))
}

impl<S> Clone for By<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: 'static> Handler<(), S> for By<S> {
    type Future = Answer;

    fn call(self, request: Request, state: S) -> Answer {
        (self.0)(request, state)
    }
}
