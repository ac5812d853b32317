//! The program that `ssh` runs to ask a question: it hands the question to the bridge and prints the answer.
//!
//! The binary's main function calls [`run`] when it was started by [`NAME`]; the other side is `openssh::questions`.
//!
//! Invariants: the answer goes to standard output, which is `ssh`, and nowhere else.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

/// What the program is called when it is to ask; `ssh` can give it no argument but the question.
pub const NAME: &str = "hpcclient-askpass";

/// The socket beside that name.
pub(crate) const SOCKET: &str = "socket";
/// Comes before an answer; without it there is none.
pub(crate) const ACCEPTED: u8 = b'+';
/// The longest answer.
const LONGEST: u64 = 64 << 10;

/// Asks what the arguments say; the first of them is the name that the program was started by. Fails if there is no
/// answer.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let name = arguments.next().unwrap_or_default();
    let question = arguments.next().unwrap_or_default();
    match ask(Path::new(&name), &question) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

fn ask(name: &Path, question: &OsString) -> io::Result<bool> {
    let mut stream = UnixStream::connect(name.with_file_name(SOCKET))?;
    let hint = std::env::var_os("SSH_ASKPASS_PROMPT").unwrap_or_default();
    let message = [hint.as_bytes(), b"\0", question.as_bytes(), b"\0"].concat();
    stream.write_all(&message)?;
    let mut answer = vec![];
    stream.take(LONGEST).read_to_end(&mut answer)?;
    let Some((&ACCEPTED, answer)) = answer.split_first() else {
        return Ok(false);
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(answer)?;
    stdout.write_all(b"\n")?;
    stdout.flush()?;
    Ok(true)
}
