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
use std::time::Duration;

/// What the program is called when it is to ask; `ssh` can give it no argument but the question.
pub const NAME: &str = "hpcclient-askpass";

/// The socket beside that name.
pub(crate) const SOCKET: &str = "socket";
/// Comes before an answer.
pub(crate) const ACCEPTED: u8 = b'+';
/// Comes alone when the person declined.
pub(crate) const DECLINED: u8 = b'-';
/// The longest answer.
const LONGEST: u64 = 64 << 10;
/// How long to stay when the bridge is gone: longer than a server waits for a login.
const GONE: Duration = Duration::from_secs(300);

/// Asks what the arguments say; the first of them is the name that the program was started by. Fails if there is no
/// answer.
///
/// `ssh` takes a failure for an empty answer and sends that, which is a refused login more. So when the bridge says
/// nothing, because it is about to end `ssh` or because it died, this waits for its own end.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let name = arguments.next().unwrap_or_default();
    let question = arguments.next().unwrap_or_default();
    let reply = ask(Path::new(&name), &question).unwrap_or_default();
    match reply.split_first() {
        Some((&ACCEPTED, answer)) if print(answer).is_ok() => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
        None => {
            std::thread::park_timeout(GONE);
            ExitCode::FAILURE
        }
    }
}

fn ask(name: &Path, question: &OsString) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(name.with_file_name(SOCKET))?;
    let hint = std::env::var_os("SSH_ASKPASS_PROMPT").unwrap_or_default();
    let message = [hint.as_bytes(), b"\0", question.as_bytes(), b"\0"].concat();
    stream.write_all(&message)?;
    let mut reply = vec![];
    stream.take(LONGEST).read_to_end(&mut reply)?;
    Ok(reply)
}

fn print(answer: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(answer)?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}
