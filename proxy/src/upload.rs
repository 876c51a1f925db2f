//! The body of a request, on its way from a client.

use crate::patience::Patience;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tidegate::{Flow, UploadBody};

/// The body of a request. It ends with an error where it is too large, or its client too slow.
#[derive(Debug)]
pub(crate) struct Upload {
    // Boxed, because most requests have none, and all are moved about with it.
    coming: Option<Box<Coming>>,
}

#[derive(Debug)]
struct Coming {
    incoming: UploadBody<Incoming>,
    left: u64,
    patience: Patience,
    progress: Arc<Progress>,
}

/// What an upload has come to, for those who do not hold it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    stage: AtomicU8,
    frames: AtomicU64,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Whoever takes the body takes the next bytes.
    Taken = 0,
    /// The client owes bytes.
    Awaited,
    /// All of it was taken.
    Ended,
    TooLarge,
    TooSlow,
    /// The client left, or sent what is no body.
    Broken,
}

const STAGES: [Stage; 6] =
    [Stage::Taken, Stage::Awaited, Stage::Ended, Stage::TooLarge, Stage::TooSlow, Stage::Broken];

impl Progress {
    pub(crate) fn stage(&self) -> Stage {
        STAGES.get(usize::from(self.stage.load(Relaxed))).copied().unwrap_or(Stage::Broken)
    }

    /// How many frames were taken.
    pub(crate) fn frames(&self) -> u64 {
        self.frames.load(Relaxed)
    }

    fn set(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
    }
}

impl Upload {
    /// A request's body of at most so many bytes, which are never longer apart than `patience`.
    pub(crate) fn new(incoming: Incoming, most: u64, patience: Duration) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let progress = Arc::new(Progress::default());
        Self {
            coming: Some(Box::new(Coming {
                incoming: UploadBody::new(incoming, None),
                left: most,
                patience: Patience::new(patience),
                progress,
            })),
        }
    }

    pub(crate) const fn empty() -> Self {
        Self { coming: None }
    }

    /// Lets its bytes go through a flow, which may make them wait.
    pub(crate) fn go_through(&mut self, flow: Flow) {
        if let Some(coming) = &mut self.coming {
            coming.incoming.go_through(flow);
        }
    }

    /// What it has come to; nothing where the request has no body.
    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        self.coming.as_ref().map(|coming| coming.progress.clone())
    }

    /// Whether it is known to be too large before any of it is taken.
    pub(crate) fn is_too_large(&self) -> bool {
        self.coming.as_ref().is_some_and(|coming| coming.incoming.size_hint().lower() > coming.left)
    }
}

impl Coming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            // It is not the client that is slow then, nor the upstream.
            Poll::Pending if self.incoming.is_waiting() => {
                self.progress.set(Stage::Awaited);
                self.patience.renew();
                return Poll::Pending;
            }
            Poll::Pending => {
                if self.progress.stage() != Stage::Awaited {
                    self.progress.set(Stage::Awaited);
                    self.patience.renew();
                }
                ready!(self.patience.poll_over(cx));
                return Poll::Ready(Some(Err(self.fail(Stage::TooSlow))));
            }
        };
        Poll::Ready(match frame {
            None => {
                self.progress.set(Stage::Ended);
                None
            }
            Some(Err(_)) => Some(Err(self.fail(Stage::Broken))),
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = self.left.checked_sub(bytes) else {
                    return Poll::Ready(Some(Err(self.fail(Stage::TooLarge))));
                };
                self.left = left;
                self.progress.frames.fetch_add(1, Relaxed);
                let is_ended = frame.is_trailers() || self.incoming.is_end_stream();
                self.progress.set(if is_ended { Stage::Ended } else { Stage::Taken });
                Some(Ok(frame))
            }
        })
    }

    fn fail(&self, stage: Stage) -> UploadError {
        self.progress.set(stage);
        UploadError(stage)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        self.coming.as_mut().map_or(Poll::Ready(None), |coming| coming.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.coming.as_ref().is_none_or(|coming| coming.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.coming.as_ref().map_or(SizeHint::with_exact(0), |coming| coming.incoming.size_hint())
    }
}

/// Why a request's body does not go on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UploadError(Stage);

impl fmt::Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Stage::TooLarge => "the request's body is too large",
            Stage::TooSlow => "the request's body comes too slowly",
            _ => "the request's body broke off",
        })
    }
}

impl std::error::Error for UploadError {}
