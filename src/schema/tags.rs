//! The declaration tags that `ktally.bpf.h` leaves in BTF: `ktally:WHAT:TEXT`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::metric::MetricKind;
use super::unit::Unit;

/// The tags of one declaration. Tags of other programs, and of later versions
/// of ktally, are passed over.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tags {
    /// Behind the summary: other tools for the same question.
    pub(crate) like: Vec<String>,
    /// `TALLY(summary)`.
    pub(crate) tally: Option<String>,
    /// `OPTION(...)`: its help.
    pub(crate) option: Option<String>,
    /// `TABLE(...)` and its kin: its help.
    pub(crate) table: Option<String>,
    /// `COUNTER(help)`.
    pub(crate) counter: Option<String>,
    /// `GAUGE(help)`.
    pub(crate) gauge: Option<String>,
    /// `MAXIMUM(help)`.
    pub(crate) maximum: Option<String>,
    /// `MINIMUM(help)`.
    pub(crate) minimum: Option<String>,
    /// `HISTOGRAM(help)`.
    pub(crate) histogram: Option<String>,
    /// `AS(decoder)`.
    pub decoder: Option<Decoder>,
    /// `UNIT(unit)`.
    pub(crate) unit: Option<Unit>,
    /// `HIDDEN`.
    pub(crate) hidden: bool,
    /// `IDLE(value, ...)`.
    pub(crate) idle: Vec<String>,
    /// `SHORT(letter)`.
    pub(crate) short: Option<char>,
    /// `SORT_BY(column)`.
    pub(crate) sort_by: Option<String>,
    /// `OVERVIEW(...)`, each a line.
    pub(crate) overview: Vec<Overview>,
    /// `DEAR`.
    pub(crate) dear: bool,
    /// `WITH(option)`.
    pub with: Option<String>,
    /// `WITHOUT(option)`.
    pub(crate) without: Option<String>,
    /// `OPTIONAL`.
    pub(crate) optional: bool,
    /// `ALTERNATIVE(group)`.
    pub(crate) alternative: Option<String>,
    /// `ATTACH(target)`.
    pub attach: Option<String>,
    /// On the flag that says whether a command is followed.
    pub(crate) follow: bool,
    /// On the PID namespace whose numbers are shown.
    pub(crate) pids: bool,
    /// On the plan of `ktally count`.
    pub(crate) plan: bool,
    /// A column's name, where C has none like it.
    pub(crate) name: Option<String>,
    /// On the counter of events that the kernel did not report.
    pub(crate) gaps: bool,
    /// On the flag that says whether the kernel can raise maxima.
    pub(crate) maxima: bool,
    /// On the counter of attempts to raise a maximum that were given up.
    pub(crate) unraised: bool,
    /// `AT_START`: a program that runs once, when counting begins.
    pub(crate) at_start: bool,
    /// `UNDER_WAY(table, column)`: what a map's events are added to.
    pub(crate) under_way: Option<String>,
}

/// `OVERVIEW(place, what, column)`: a line of the overview, in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Overview {
    place: u32,
    pub(crate) what: String,
    /// As rows are sorted by it.
    pub(crate) column: String,
}

impl Overview {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        Some(Self {
            place: parts.next()?.parse().ok()?,
            what: parts.next()?.to_owned(),
            column: parts.next()?.split_whitespace().collect(),
        })
    }
}

/// How a number or some bytes are shown: `AS(...)`. What each of them does stands
/// in `names/`; here are those that the program itself asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decoder(Cow<'static, str>);

impl Decoder {
    pub(crate) const CGROUP: Self = Self::known("cgroup");
    pub(crate) const COMM: Self = Self::known("comm");
    pub(crate) const CPU: Self = Self::known("cpu");
    pub(crate) const ID: Self = Self::known("id");
    pub(crate) const KSTACK: Self = Self::known("kstack");
    pub(crate) const KSYM: Self = Self::known("ksym");
    /// The slots of a histogram; no tag asks for it.
    pub(crate) const LOG2: Self = Self::known("log2");
    pub(crate) const PID: Self = Self::known("pid");
    pub(crate) const USTACK: Self = Self::known("ustack");

    const fn known(tag: &'static str) -> Self {
        Self(Cow::Borrowed(tag))
    }

    /// From what stands in the tag.
    pub fn from_tag(text: &str) -> Self {
        // Formatters of C write `enum : state`, for all they know a bitfield.
        Self(text.split_whitespace().collect::<String>().into())
    }

    /// As the tag wrote it: `errno`, `enum:state`.
    pub fn tag(&self) -> &str {
        &self.0
    }

    /// Whether it shows an array as one thing.
    pub(super) fn is_of_arrays(&self) -> bool {
        matches!(self.tag(), "comm" | "ip" | "ipv6" | "kstack" | "ustack")
    }

    /// A scalar key's column is named so: `errno`, `state`.
    pub(crate) fn name(&self) -> &str {
        let tag = self.tag();
        tag.split_once(':').map_or(tag, |(_, name)| name)
    }
}

impl Tags {
    /// Whether they say that something is counted here.
    pub(crate) fn is_metric(&self) -> bool {
        use MetricKind::{Counter, Gauge, Histogram, Maximum, Minimum};
        let kinds = [Counter, Gauge, Maximum, Minimum, Histogram];
        kinds.iter().any(|kind| self.help_of(*kind).is_some())
    }

    /// What they say of a column of this kind.
    pub(crate) fn help_of(&self, kind: MetricKind) -> Option<&String> {
        let help = match kind {
            MetricKind::Histogram => &self.histogram,
            MetricKind::Gauge => &self.gauge,
            MetricKind::Maximum => &self.maximum,
            MetricKind::Minimum => &self.minimum,
            MetricKind::Counter => &self.counter,
            MetricKind::UnderWay => &None,
        };
        help.as_ref()
    }

    /// Takes in one tag's text.
    pub fn add(&mut self, tag: &str) {
        let Some((what, text)) = tag
            .strip_prefix("ktally:")
            .and_then(|rest| rest.split_once(':'))
        else {
            return;
        };
        let help = || Some(text.to_owned());
        match what {
            "tally" => self.tally = help(),
            "like" => self.like = text.split_whitespace().map(str::to_owned).collect(),
            "option" => self.option = help(),
            "table" => self.table = help(),
            "counter" => self.counter = help(),
            "gauge" => self.gauge = help(),
            "maximum" => self.maximum = help(),
            "minimum" => self.minimum = help(),
            "histogram" => self.histogram = help(),
            "as" => self.decoder = Some(Decoder::from_tag(text)),
            "unit" => self.unit = Some(Unit::from_tag(text)),
            "hidden" => self.hidden = true,
            "idle" => self.idle = text.split(',').map(|it| it.trim().to_owned()).collect(),
            "short" => self.short = text.chars().next(),
            "sort_by" => self.sort_by = help(),
            "overview" => self.overview.extend(Overview::parse(text)),
            "dear" => self.dear = true,
            "with" => self.with = help(),
            "without" => self.without = help(),
            "optional" => self.optional = true,
            "alternative" => self.alternative = help(),
            "attach" => self.attach = help(),
            "follow" => self.follow = true,
            "pids" => self.pids = true,
            "plan" => self.plan = true,
            "name" => self.name = help(),
            "gaps" => self.gaps = true,
            "maxima" => self.maxima = true,
            "unraised" => self.unraised = true,
            "at_start" => self.at_start = true,
            "under_way" => self.under_way = help(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_understood_and_strangers_passed_over() {
        let mut tags = Tags::default();
        for tag in [
            "ktally:counter:calls: all",
            "ktally:as:enum:state",
            "user",
            "ktally:",
            "ktally:new:x",
            "",
        ] {
            tags.add(tag);
        }
        assert_eq!(tags.counter.as_deref(), Some("calls: all"));
        assert_eq!(tags.decoder, Some(Decoder::from_tag("enum:state")));
        tags.add("ktally:as:enum : state");
        assert_eq!(tags.decoder, Some(Decoder::from_tag("enum:state")));
        for line in ["20:run queue:latency.p99", "10:CPU:time", "x:y:z", "1:y"] {
            tags.add(&format!("ktally:overview:{line}"));
        }
        tags.overview.sort();
        let lines = tags.overview.iter().map(|it| (&*it.what, &*it.column));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines, [("CPU", "time"), ("run queue", "latency.p99")]);
        tags.add("ktally:as:tomorrow");
        assert_eq!(tags.decoder.as_ref().map(Decoder::name), Some("tomorrow"));
    }
}
