//! Bodies of answers: whole, or a stream of tokens with its faults.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::faults::Fault;
use crate::pace::Pace;
use crate::recorder::Running;
use crate::scheduler::Place;

/// Time for what was written to leave the process.
const FLUSH: Duration = Duration::from_millis(30);
/// Time after which a stream that hangs sees whether it still does.
const HOLD: Duration = Duration::from_millis(20);

/// The body of every answer.
pub(crate) enum Answer {
    Whole(Option<Bytes>),
    Stream(Box<Script>),
}

/// A connection that is broken on purpose.
#[derive(Debug)]
pub(crate) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut on purpose")
    }
}

impl std::error::Error for Cut {}

type Part = Result<Frame<Bytes>, Cut>;

/// The parts of a stream in order, and when each is due.
pub(crate) struct Script {
    /// Tokens first, then the final parts, which come at once.
    parts: std::vec::IntoIter<Bytes>,
    tokens: usize,
    sent: usize,
    pace: Arc<Pace>,
    pause_after_first: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    hold: Option<Pin<Box<Sleep>>>,
    fault: Fault,
    crash: Bytes,
    error: Bytes,
    running: Option<Running>,
    _place: Option<Place>,
}

/// What a stream is made of.
pub(crate) struct Parts {
    pub(crate) tokens: Vec<Bytes>,
    pub(crate) last: Vec<Bytes>,
    /// What a crashed runner leaves behind.
    pub(crate) crash: Bytes,
    /// An error inside the stream.
    pub(crate) error: Bytes,
}

impl Answer {
    pub(crate) fn whole(text: impl Into<Bytes>) -> Self {
        Answer::Whole(Some(text.into()))
    }

    pub(crate) fn stream(
        parts: Parts,
        pace: &Arc<Pace>,
        fault: Fault,
        running: Running,
        place: Place,
    ) -> Self {
        let tokens = parts.tokens.len();
        let all: Vec<Bytes> = parts.tokens.into_iter().chain(parts.last).collect();
        let pause_after_first = match fault {
            Fault::PauseAfterFirst(millis) => Duration::from_millis(millis),
            _ => Duration::ZERO,
        };
        Answer::Stream(Box::new(Script {
            parts: all.into_iter(),
            tokens,
            sent: 0,
            pace: Arc::clone(pace),
            pause_after_first,
            timer: None,
            hold: None,
            fault,
            crash: parts.crash,
            error: parts.error,
            running: Some(running),
            _place: Some(place),
        }))
    }
}

impl Script {
    fn end(&mut self) -> Option<Part> {
        if let Some(mut running) = self.running.take() {
            running.finish();
        }
        self.parts = Vec::new().into_iter();
        None
    }

    /// Not a byte leaves while the simulator hangs.
    fn poll_awake(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.pace.hung() {
            let hold = self.hold.get_or_insert_with(|| Box::pin(tokio::time::sleep(HOLD)));
            ready!(hold.as_mut().poll(cx));
            self.hold = None;
        }
        Poll::Ready(())
    }

    fn faulted(&mut self, cx: &mut Context<'_>) -> Option<Poll<Option<Part>>> {
        let last_words = |script: &mut Self, words: Bytes| {
            script.end();
            script.fault = Fault::None;
            Some(Poll::Ready(Some(Ok(Frame::data(words)))))
        };
        match self.fault {
            Fault::CutAfter(after) if self.sent >= after => {
                // What was sent before is to arrive before the end.
                let pause = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(FLUSH)));
                Some(pause.as_mut().poll(cx).map(|()| Some(Err(Cut))))
            }
            Fault::StallAfter(after) if self.sent >= after => Some(Poll::Pending),
            Fault::EndAfter(after) if self.sent >= after => Some(Poll::Ready(self.end())),
            Fault::CrashAfter(after) if self.sent >= after => {
                let words = self.crash.clone();
                last_words(self, words)
            }
            Fault::ErrorAfter(after) if self.sent >= after => {
                let words = self.error.clone();
                last_words(self, words)
            }
            _ => None,
        }
    }

    fn wait(&self) -> Duration {
        if self.sent == 0 || self.sent >= self.tokens {
            Duration::ZERO
        } else if self.sent == 1 {
            self.pace.interval() + self.pause_after_first
        } else {
            self.pace.interval()
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let script = match &mut *self {
            Answer::Whole(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Answer::Stream(script) => script,
        };
        ready!(script.poll_awake(cx));
        if let Some(faulted) = script.faulted(cx) {
            return faulted;
        }
        let wait = script.wait();
        if !wait.is_zero() {
            let timer = script.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            script.timer = None;
        }
        match script.parts.next() {
            Some(part) => {
                script.sent += 1;
                Poll::Ready(Some(Ok(Frame::data(part))))
            }
            None => Poll::Ready(script.end()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Answer::Stream(_) => SizeHint::default(),
        }
    }
}

pub(crate) type Reply = Response<Answer>;

/// An answer with a content type.
pub(crate) fn reply(status: u16, kind: &str, body: Answer) -> Result<Reply, Infallible> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    if let Ok(value) = http::HeaderValue::from_str(kind) {
        response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::models::Settings;
    use crate::recorder::{Received, Recorder};
    use crate::scheduler::Scheduler;

    #[tokio::test(start_paused = true)]
    async fn a_stream_slows_down_hangs_and_goes_on() {
        let settings = Settings::default();
        let scheduler = Scheduler::new(settings.clone(), Arc::default()).expect("no card");
        let place = scheduler.place(&settings.models[0], None, None).await.expect("loads");
        let received = Received {
            method: String::new(),
            path: String::new(),
            headers: http::HeaderMap::new(),
            body: Bytes::new(),
        };
        let running = Arc::new(Recorder::default()).start(received);
        let pace = Arc::new(Pace::new(Duration::from_millis(100)));
        let (token, none) = (Bytes::from_static(b"token"), Bytes::new());
        let parts =
            Parts { tokens: vec![token; 4], last: vec![], crash: none.clone(), error: none };
        let mut answer = Answer::stream(parts, &pace, Fault::None, running, place);
        let mut next = async || {
            let start = Instant::now();
            let frame = timeout(Duration::from_secs(60), answer.frame()).await;
            frame.map(|frame| (frame.is_some(), start.elapsed().as_millis()))
        };
        assert_eq!(next().await, Ok((true, 0)));
        assert_eq!(next().await, Ok((true, 100)));
        pace.slow(3.0);
        assert_eq!(next().await, Ok((true, 300)));
        pace.hang(true);
        assert!(next().await.is_err(), "nothing comes");
        pace.hang(false);
        assert!(next().await.is_ok_and(|(more, _)| more));
        assert!(next().await.is_ok_and(|(more, _)| !more));
    }
}
