//! Spans and log records, in OTLP's form.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, SeverityNumber},
    trace::v1::{self as proto, Status, span::SpanKind, status::StatusCode},
};
use std::time::{Duration, SystemTime};

/// A span, and the trace that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    trace: [u8; 16],
    span: [u8; 8],
}

impl Place {
    /// The first span of a trace.
    #[must_use]
    pub fn root() -> Self {
        Self { trace: random(), span: random() }
    }

    /// Another span of the trace.
    #[must_use]
    pub fn sibling(self) -> Self {
        Self { span: random(), ..self }
    }
}

/// Not all zeros, which is no id.
fn random<const BYTES: usize>() -> [u8; BYTES] {
    let mut id = [1; BYTES];
    // Without random numbers, traces could not be told apart, which is no reason to end.
    let _ = getrandom::fill(&mut id);
    id
}

/// Something that took time.
#[derive(Clone, Debug)]
pub struct Span {
    /// What it was.
    pub name: &'static str,
    /// Where it is.
    pub place: Place,
    /// What it is a part of; `None`: it is the whole trace.
    pub parent: Option<Place>,
    /// When it began.
    pub begun: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// Why it failed; `None`: it did not.
    pub error: Option<String>,
    /// What else is known.
    pub attributes: Vec<KeyValue>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Log {
    /// When.
    pub time: SystemTime,
    /// Whether somebody should know.
    pub is_trouble: bool,
    /// In a sentence.
    pub message: String,
    /// The span in which it happened.
    pub place: Option<Place>,
    /// What else is known.
    pub attributes: Vec<KeyValue>,
}

/// What is sent.
#[derive(Clone, Debug)]
pub enum Record {
    /// A span.
    Span(Box<proto::Span>),
    /// A log record.
    Log(Box<LogRecord>),
}

impl From<Span> for Record {
    fn from(span: Span) -> Self {
        let Span { name, place, parent, begun, ended, error, attributes } = span;
        let failed = |message| Status { message, code: StatusCode::Error.into() };
        Self::Span(Box::new(proto::Span {
            trace_id: place.trace.into(),
            span_id: place.span.into(),
            parent_span_id: parent.map(|parent| parent.span.into()).unwrap_or_default(),
            name: name.to_owned(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: nanoseconds(begun),
            // Clocks are set back now and then.
            end_time_unix_nano: nanoseconds(ended.max(begun)),
            attributes,
            status: error.map(failed),
            ..proto::Span::default()
        }))
    }
}

impl From<Log> for Record {
    fn from(log: Log) -> Self {
        let Log { time, is_trouble, message, place, attributes } = log;
        let (number, word) =
            if is_trouble { (SeverityNumber::Warn, "WARN") } else { (SeverityNumber::Info, "INFO") };
        Self::Log(Box::new(LogRecord {
            time_unix_nano: nanoseconds(time),
            observed_time_unix_nano: nanoseconds(time),
            severity_number: number.into(),
            severity_text: word.to_owned(),
            body: Some(AnyValue { value: Some(Value::StringValue(message)) }),
            attributes,
            trace_id: place.map(|place| place.trace.into()).unwrap_or_default(),
            span_id: place.map(|place| place.span.into()).unwrap_or_default(),
            ..LogRecord::default()
        }))
    }
}

/// An attribute that is text.
pub fn text(key: &str, value: impl ToString) -> KeyValue {
    attribute(key, Value::StringValue(value.to_string()))
}

/// An attribute that is a number.
#[must_use]
pub fn number(key: &str, value: usize) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Since 1970.
fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
