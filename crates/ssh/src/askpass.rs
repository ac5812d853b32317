//! The program that `ssh` runs to ask a question: it hands the question to the bridge and prints the answer.

/// What the program is called when it is to ask; `ssh` can give it no argument but the question.
pub const NAME: &str = "hpcclient-askpass";
