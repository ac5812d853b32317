//! Who asks: where there are jump hosts, each question and each message begins with the host it comes from.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::prompt::visible;
use crate::{Prompt, Prompter};

/// Passes everything on with a name in front.
struct Named {
    name: String,
    prompter: Arc<dyn Prompter>,
}

/// A prompter that puts a name in front of everything.
pub(super) fn named(name: &str, prompter: &Arc<dyn Prompter>) -> Arc<dyn Prompter> {
    Arc::new(Named {
        name: visible(name),
        prompter: Arc::clone(prompter),
    })
}

impl Prompter for Named {
    fn ask(&self, prompt: Prompt) -> BoxFuture<'_, Option<String>> {
        let text = format!("{}: {}", self.name, prompt.text);
        self.prompter.ask(Prompt { text, ..prompt })
    }

    fn progress(&self, message: &str) {
        self.prompter.progress(&format!("{}: {message}", self.name));
    }

    fn is_anybody_there(&self) -> bool {
        self.prompter.is_anybody_there()
    }

    fn missed(&self, question: &str) {
        self.prompter.missed(question);
    }
}
