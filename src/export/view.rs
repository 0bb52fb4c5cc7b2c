//! What a request of the API asks to see, in the words of `ktally read`.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value};

use crate::error::{unknown, usage};
use crate::schema::dotted;
use crate::snapshot::{Condition, Query, Sort};

/// Which rows of which tally, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// `None` is the first one.
    pub(crate) tally: Option<String>,
    /// Without a limit: what is not sent is added up.
    pub(crate) query: Query,
    /// How many rows are sent.
    pub(crate) top: usize,
    /// The key of the rows whose histograms are sent whole, or a part of a key.
    pub(crate) detail: Option<Map<String, Value>>,
    /// Between two readings of a stream.
    pub(crate) every: Duration,
    /// Totals since counting began, rather than what an interval has.
    pub(crate) totals: bool,
}

const TOP: usize = 200;
const MOST_TOP: usize = 1000;

/// Streams have one of these intervals, so that they share readings.
const INTERVALS: [u64; 6] = [1000, 2000, 5000, 10_000, 30_000, 60_000];

const WORDS: [&str; 8] = [
    "tally", "by", "where", "sort", "top", "every", "detail", "total",
];

impl View {
    /// From what stands behind the `?`. An error says what would have been right.
    pub fn parse(text: &str) -> Result<Self> {
        let mut view = Self {
            tally: None,
            query: Query::default(),
            top: TOP,
            detail: None,
            every: Duration::from_secs(1),
            totals: false,
        };
        for (word, value) in form_urlencoded::parse(text.as_bytes()) {
            // An empty one is as if it were not there.
            if value.is_empty() && word != "total" {
                continue;
            }
            view.set(&word, &value)?;
        }
        Ok(view)
    }

    fn set(&mut self, word: &str, value: &str) -> Result<()> {
        let bad = |why: &str| usage(format!("`{word}={value}`: {why}"));
        match word {
            "tally" => self.tally = Some(value.to_owned()),
            "by" => self.query.by = Some(value.split(',').map(dotted).collect()),
            "where" => {
                let condition = Condition::parse(value).map_err(|why| bad(&why))?;
                self.query.filters.push(condition);
            }
            "sort" => self.query.sort = Some(Sort::parse(&dotted(value))),
            "top" => {
                let top = value.parse().ok().filter(|top| *top <= MOST_TOP);
                self.top = top.ok_or_else(|| bad("write a whole number up to 1000"))?;
            }
            "every" => self.every = interval(value).ok_or_else(|| bad("write a time like `1s`"))?,
            "detail" => {
                let key = serde_json::from_str(value).ok();
                let example = "write a key as JSON, {\"comm\":\"bash\"}";
                self.detail = Some(key.ok_or_else(|| bad(example))?);
            }
            "total" => match value {
                "" | "1" | "true" => self.totals = true,
                "0" | "false" => self.totals = false,
                _ => return Err(bad("write 1 or 0")),
            },
            _ => return Err(unknown("parameter", word, WORDS)),
        }
        Ok(())
    }
}

/// The next one that streams have.
fn interval(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let given = seconds.or_else(|| humantime::parse_duration(text).ok())?;
    let mut intervals = INTERVALS.into_iter().map(Duration::from_millis);
    let longest = intervals.clone().next_back();
    intervals.find(|it| *it >= given).or(longest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_view_is_asked_for_in_the_words_of_read() {
        let text = "tally=syscalls&by=comm,call&where=comm%3Dnginx&where=p99%3E10ms&sort=-calls\
                    &top=7&every=1500ms&detail=%7B%22comm%22%3A%22a%26b%22%7D&total=1";
        let view = View::parse(text).unwrap();
        assert_eq!(view.tally.as_deref(), Some("syscalls"));
        assert_eq!(view.query.by, Some(vec!["comm".into(), "call".into()]));
        let filters: Vec<String> = view.query.filters.iter().map(ToString::to_string).collect();
        assert_eq!(filters, ["comm=nginx", "p99>10ms"]);
        assert_eq!(view.query.sort, Some(Sort::parse("-calls")));
        assert_eq!((view.query.top, view.top), (None, 7));
        assert_eq!(view.every, Duration::from_secs(2));
        assert_eq!(view.detail.map(Value::Object), Some(json!({"comm": "a&b"})));
        assert!(view.totals);
    }

    #[test]
    fn what_is_not_given_has_a_default() {
        let view = View::parse("tally=&by=&where=&sort=&detail=&top=&every=").unwrap();
        assert_eq!(view, View::parse("").unwrap());
        assert_eq!((view.top, view.every), (200, Duration::from_secs(1)));
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, why) in [
            ("tall=x", "no parameter named `tall`; did you mean `tally`?"),
            ("top=1001", "`top=1001`: write a whole number up to 1000"),
            ("every=soon", "`every=soon`: write a time like `1s`"),
            ("where=comm", "`where=comm`: write it as FIELD=VALUE"),
            ("detail=comm", "`detail=comm`: write a key as JSON"),
            ("detail=[1]", "`detail=[1]`: write a key as JSON"),
            ("total=yes", "`total=yes`: write 1 or 0"),
        ] {
            let error = View::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn intervals_are_few() {
        for (text, millis) in [
            ("1ms", 1000),
            ("0.5s", 1000),
            ("1", 1000),
            ("1s", 1000),
            ("3s", 5000),
            ("1h", 60_000),
        ] {
            assert_eq!(
                interval(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        assert_eq!(interval("-1s"), None);
    }
}
