//! What a layer makes of the answers to what it sent.

use super::Outcome;
use http::Response;
use std::fmt;

/// Finds out what became of a request, for the pacer's [feedback](crate::Pacer::feedback).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot judge answers of `{T}` and errors of `{E}`",
    note = "`judge` takes a closure `|answer: Result<&T, &E>| -> Outcome`; `judge_answers` is for services over HTTP"
)]
pub trait Judge<T, E> {
    /// What became of it; nothing where it tells nothing.
    fn judge(&self, answer: Result<&T, &E>) -> Option<Outcome>;
}

/// No answer tells anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unjudged;

impl<T, E> Judge<T, E> for Unjudged {
    fn judge(&self, _: Result<&T, &E>) -> Option<Outcome> {
        None
    }
}

/// Answers over HTTP tell what [`Outcome::answer`] reads, and errors are of the class `error`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByAnswer;

impl<B, E> Judge<Response<B>, E> for ByAnswer {
    fn judge(&self, answer: Result<&Response<B>, &E>) -> Option<Outcome> {
        Some(match answer {
            Ok(response) => Outcome::answer(response),
            Err(_) => Outcome::failed("error"),
        })
    }
}

/// A closure tells what became of a request.
#[derive(Clone, Copy)]
pub struct JudgeBy<F>(pub(super) F);

impl<T, E, F: Fn(Result<&T, &E>) -> Outcome> Judge<T, E> for JudgeBy<F> {
    fn judge(&self, answer: Result<&T, &E>) -> Option<Outcome> {
        Some((self.0)(answer))
    }
}

impl<F> fmt::Debug for JudgeBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JudgeBy").finish_non_exhaustive()
    }
}
