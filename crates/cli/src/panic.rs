//! The last resort: a panic becomes one line and exit code 1.
//!
//! The hook prints nothing, since capture catches panics of a model's `forward` and reports them itself; only a panic that reaches
//! the end of the program is told, with the place it began at.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use crate::output;

/// What the latest panic of any thread said.
static LATEST: Mutex<String> = Mutex::new(String::new());

/// Runs `program`; a panic that leaves it is reported as an internal error.
pub fn guarded(program: impl FnOnce() -> ExitCode) -> ExitCode {
    set_hook(Box::new(|info| *LATEST.lock().unwrap_or_else(PoisonError::into_inner) = describe(info)));
    catch_unwind(AssertUnwindSafe(program)).unwrap_or_else(|_| {
        let latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
        output::message(&format!("error: internal error, {latest}"));
        output::message("hint: this is a fault of qat itself; please report it with the command that was run");
        ExitCode::FAILURE
    })
}

/// `FILE:LINE: expected no panic, found MESSAGE`, on one line and with the file's name alone.
fn describe(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map_or_else(String::new, |location| {
        let file = location.file().rsplit(['/', '\\']).next().unwrap_or_default();
        format!("{file}:{}", location.line())
    });
    let message = info.payload_as_str().unwrap_or("no message");
    format!("{place}: expected no panic, found {}", message.lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_with_its_place() {
        let usual = std::panic::take_hook();
        // A panic that somebody catches, as capture does, leaves the program's own result alone.
        let caught = guarded(|| {
            assert!(catch_unwind(|| panic!("caught")).is_err());
            ExitCode::SUCCESS
        });
        let failed = guarded(|| panic!("first line\nsecond line"));
        set_hook(usual);
        assert_eq!(format!("{caught:?}"), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(format!("{failed:?}"), format!("{:?}", ExitCode::FAILURE));
        let latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(latest.starts_with("panic.rs:") && latest.ends_with(": expected no panic, found first line"), "{latest}");
    }
}
