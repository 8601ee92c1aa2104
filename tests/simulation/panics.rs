//! What panics in a history is a finding: Tokio keeps to itself what its tasks panic with, and a control that is gone seems
//! to be at rest.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// What panicked on this thread since it began to listen.
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// `Err` names what has panicked in the history of this thread.
pub fn heard() -> Result<(), String> {
    let first = HEARD.with_borrow(|heard| heard.as_ref().and_then(|all| all.first().cloned()));
    first.map_or(Ok(()), |words| Err(format!("panic: {words}")))
}

/// Runs a history; what panics in it and was not heard in its course is heard at its end.
pub fn told<T>(history: impl FnOnce() -> Result<T, (String, Vec<String>)>) -> Result<T, (String, Vec<String>)> {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let ours = HEARD.with_borrow_mut(|heard| heard.as_mut().map(|all| all.push(panic.to_string())).is_some());
            if !ours {
                usual(panic);
            }
        }));
    });
    HEARD.set(Some(Vec::new()));
    let end = catch_unwind(AssertUnwindSafe(history));
    let quiet = heard();
    HEARD.set(None);
    match (end, quiet) {
        (Ok(Err(found)), _) => Err(found),
        (_, Err(words)) => Err((words, Vec::new())),
        (Ok(end), Ok(())) => end,
        (Err(_), Ok(())) => Err(("panic: without a word".to_owned(), Vec::new())),
    }
}
