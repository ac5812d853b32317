//! What can be asked of a run's stored output: a search, a file to take away, a console's screen.
//!
//! Called by `http`; reads through `store`. Invariants: nothing is kept between two questions; an answer is made in pieces,
//! so that neither a long line nor a large run grows the agent; a command's output is hostile.
//! Not here: following a run (`runs::follow`).

mod cast;
mod decode;
mod escapes;
mod export;
mod grep;
mod modes;
mod plain;
mod screen;
mod search;
mod terminal;

pub use self::{
    export::{Export, Form},
    screen::{ScreenError, screen},
    search::{Question, SearchError, search},
};
