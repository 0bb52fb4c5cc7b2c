//! Conditions on rows, from text to a predicate.

use anyhow::{Context, Result, anyhow, bail, ensure};
use ipnet::IpNet;
use wildmatch::WildMatch;

use super::column::Column;
use crate::error::unknown_text;
use crate::schema::{
    Label, LeftOut, MetricKind, Names, Table, Tags, dotted, parse, parse_number, split, with_unit,
};

/// `FIELD=VALUE,...` as it is typed, before any table is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    pub(crate) field: String,
    operator: Operator,
    /// What stands behind the operator.
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Operator {
    sign: &'static str,
    compare: Compare,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Compare {
    Equal,
    Like,
    Less,
    AtMost,
    More,
    AtLeast,
    Bits,
}

const EQUAL: Operator = Operator {
    sign: "=",
    compare: Compare::Equal,
};

const OPERATORS: [Operator; 9] = {
    const fn operator(sign: &'static str, compare: Compare) -> Operator {
        Operator { sign, compare }
    }
    [
        EQUAL,
        operator("!=", Compare::Equal),
        operator("~", Compare::Like),
        operator("!~", Compare::Like),
        operator("<", Compare::Less),
        operator("<=", Compare::AtMost),
        operator(">", Compare::More),
        operator(">=", Compare::AtLeast),
        operator("&", Compare::Bits),
    ]
};

impl Operator {
    fn is_negated(self) -> bool {
        self.sign.starts_with('!')
    }

    /// Whether one value of several is enough.
    fn takes_list(self) -> bool {
        matches!(self.compare, Compare::Equal | Compare::Like)
    }

    fn admits(self, number: i128, wanted: i128) -> bool {
        let ordering = number.cmp(&wanted);
        match self.compare {
            Compare::Equal | Compare::Like => ordering.is_eq(),
            Compare::Less => ordering.is_lt(),
            Compare::AtMost => ordering.is_le(),
            Compare::More => ordering.is_gt(),
            Compare::AtLeast => ordering.is_ge(),
            Compare::Bits => number & wanted != 0,
        }
    }

    /// Of numbers in thousandths.
    fn admits_thousandths(self, number: i128, wanted: i128) -> bool {
        match self.compare {
            Compare::Bits => self.admits(number / 1000, wanted / 1000),
            _ => self.admits(number, wanted),
        }
    }

    fn admits_any<W>(self, wanted: &[W], is_met: impl FnMut(&W) -> bool) -> bool {
        wanted.iter().any(is_met) != self.is_negated()
    }
}

impl Condition {
    /// An error says what would have been right.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let signs = || OPERATORS.iter().map(|known| known.sign);
        let is_sign = |c: char| "=!<>~&".contains(c);
        let Some(start) = text.find(is_sign) else {
            let others: Vec<&str> = signs().skip(1).collect();
            return Err(format!(
                "write it as FIELD=VALUE, or with one of {}",
                others.join(" ")
            ));
        };
        let (field, rest) = text.split_at(start);
        let (sign, value) = rest.split_at(rest.find(|c| !is_sign(c)).unwrap_or(rest.len()));
        let known = OPERATORS.iter().find(|known| known.sign == sign);
        Ok(Self {
            field: dotted(field),
            operator: *known.ok_or_else(|| unknown_text("operator", sign, signs()))?,
            text: value.to_owned(),
        })
    }

    fn values(&self) -> Vec<&str> {
        match self.operator.takes_list() {
            true => split(&self.text, ','),
            false => vec![&self.text],
        }
    }

    /// Refuses what no row of these tables can pass. `flag` is where it was given.
    pub(super) fn check(&self, flag: &str, tables: &[Table], names: &dyn Names) -> Result<()> {
        let known = || tables.iter().flat_map(Table::columns);
        let is_another = |value: &&str| {
            let condition = Self::parse(value);
            condition.is_ok_and(|it| known().any(|name| name == it.field))
        };
        let values = self.values();
        if let Some(another) = values.iter().skip(1).position(is_another) {
            let (values, others) = values.split_at(another + 1);
            let (sign, values, others) = (self.operator.sign, values.join(","), others.join(","));
            let field = &self.field;
            bail!("it takes one field; write --where {field}{sign}{values} --{flag} {others}");
        }
        let mut refused = None;
        for table in tables {
            match self.of(table, names) {
                // A row of this table may pass.
                Some(Ok(_)) => return Ok(()),
                Some(Err(error)) => refused = Some(error),
                None => {}
            }
        }
        Err(refused.unwrap_or_else(|| anyhow!("{}", unknown_text("field", &self.field, known()))))
    }

    /// As it is asked of the rows of a table; `None` for one without the field. An error
    /// says why no row can pass.
    fn of<'t>(&self, table: &'t Table, names: &dyn Names) -> Option<Result<Test<'t>>> {
        let column = Column::of(table, &self.field)?;
        let Column::Label(label) = column else {
            let wanted = self.values().into_iter();
            let wanted = wanted.map(|text| self.number(table, column, text));
            let wanted = wanted.collect::<Result<_>>();
            return Some(wanted.map(|wanted| Test::Number(column, self.operator, wanted)));
        };
        let key = KeyTest::new(&table.labels[label], self.operator, &self.values(), names);
        Some(key.map(Test::Key))
    }

    fn number(&self, table: &Table, column: Column, text: &str) -> Result<i128> {
        let Self {
            field, operator, ..
        } = self;
        let mut metrics = table.metrics.iter().filter(|metric| metric.name == *field);
        ensure!(
            metrics.all(|metric| metric.kind != MetricKind::Histogram),
            "`{field}` is a histogram; write {field}.p99, {field}.mean, {field}.sum or {field}.count"
        );
        ensure!(
            operator.compare != Compare::Like,
            "`{}` compares text, and `{field}` is a number",
            operator.sign
        );
        let number = match column.unit(table) {
            Some(unit) => with_unit(unit, text)?,
            None => whole(text).with_context(|| format!("`{text}` is not a whole number"))?,
        };
        Ok(number.saturating_mul(1000))
    }
}

/// A number without a unit; `10K` and `2M` are of thousands and millions.
fn whole(text: &str) -> Option<i128> {
    let scales = [("K", 1_000), ("M", 1_000_000)];
    let scaled = scales.iter().find_map(|(letter, scale)| {
        let number = parse_number(text.strip_suffix(letter)?)?;
        number.checked_mul(*scale)
    });
    scaled.or_else(|| parse_number(text))
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{}", self.field, self.operator.sign, self.text)
    }
}

/// A condition on the rows of one table.
#[derive(Debug)]
enum Test<'t> {
    Key(KeyTest<'t>),
    /// In thousandths.
    Number(Column, Operator, Vec<i128>),
}

/// Fewer rows than there are: those that meet all conditions.
#[derive(Debug)]
pub(crate) struct Filter<'t>(Vec<Result<Test<'t>>>);

impl<'t> Filter<'t> {
    pub(super) fn new(conditions: &[Condition], table: &'t Table, names: &dyn Names) -> Self {
        let tests = conditions.iter().filter_map(|it| it.of(table, names));
        Self(tests.collect())
    }

    /// Whether rows of this key may pass. No row passes what was refused: it is meant
    /// for another table.
    pub(crate) fn keeps_key(&self, key: &[u8], names: &dyn Names) -> bool {
        self.0.iter().all(|test| match test {
            Ok(Test::Key(test)) => test.keeps(key, names),
            Ok(Test::Number(..)) => true,
            Err(_) => false,
        })
    }

    pub(crate) fn asks_for_numbers(&self) -> bool {
        self.0
            .iter()
            .any(|test| matches!(test, Ok(Test::Number(..))))
    }

    /// Whether a row passes that has such a key.
    pub(crate) fn keeps_cells(&self, cells: &[u64]) -> bool {
        self.0.iter().all(|test| match test {
            Ok(Test::Number(column, operator, wanted)) => {
                let number = column.thousandths(cells);
                let is_met = |wanted: &i128| {
                    number.is_some_and(|it| operator.admits_thousandths(it, *wanted))
                };
                operator.admits_any(wanted, is_met)
            }
            _ => true,
        })
    }
}

/// What a label shows, or has, in the rows that are wanted.
#[derive(Debug)]
pub(super) struct KeyTest<'t> {
    label: &'t Label,
    operator: Operator,
    wanted: Vec<Wanted>,
}

#[derive(Debug)]
enum Wanted {
    /// By what the label shows, or by the bytes that the text stands for.
    Value(String, Option<Vec<u8>>),
    Pattern(WildMatch),
    Network(IpNet),
    Number(i128),
}

impl<'t> KeyTest<'t> {
    fn new(
        label: &'t Label,
        operator: Operator,
        values: &[&str],
        names: &dyn Names,
    ) -> Result<Self> {
        let wanted = values
            .iter()
            .map(|value| Wanted::of(label, operator, value, names));
        Ok(Self {
            label,
            operator,
            wanted: wanted.collect::<Result<_>>()?,
        })
    }

    /// Tests for any of these values. Values that the label cannot have are ignored.
    pub(super) fn of_any(label: &'t Label, values: &[String], names: &dyn Names) -> Self {
        let values = values.iter();
        let wanted = values.filter_map(|value| Wanted::of(label, EQUAL, value, names).ok());
        Self {
            label,
            operator: EQUAL,
            wanted: wanted.collect(),
        }
    }

    pub(super) fn keeps(&self, key: &[u8], names: &dyn Names) -> bool {
        let Self {
            label, operator, ..
        } = self;
        let shown = || names.of(label, key).to_string();
        let described = || names.described(label, key).to_string();
        operator.admits_any(&self.wanted, |wanted| match wanted {
            Wanted::Value(text, bytes) => {
                let place = label.place.at_start();
                let typed = bytes.as_ref().map(|bytes| place.decode(bytes));
                typed == Some(label.place.decode(key))
                    || shown() == *text
                    || bytes.is_none() && described() == *text
            }
            Wanted::Pattern(pattern) => pattern.matches(&shown()) || pattern.matches(&described()),
            Wanted::Network(network) => {
                let address = shown().parse();
                address.is_ok_and(|it: std::net::IpAddr| network.contains(&it))
            }
            Wanted::Number(wanted) => {
                let number = number(label, key, names);
                number.is_some_and(|it| operator.admits(it, *wanted))
            }
        })
    }
}

impl Wanted {
    fn of(label: &Label, operator: Operator, text: &str, names: &dyn Names) -> Result<Self> {
        if operator.compare == Compare::Like {
            return Ok(Self::Pattern(WildMatch::new(text)));
        }
        if label.is_address() && text.contains('/') {
            ensure!(
                operator.takes_list(),
                "`{}` compares numbers",
                operator.sign
            );
            let network = text.parse().ok();
            let network = network.context("write a network like 10.0.0.0/8 or 2001:db8::/32")?;
            return Ok(Self::Network(network));
        }
        let bytes = typed(label, text, names)?;
        if operator.takes_list() {
            return Ok(Self::Value(text.to_owned(), bytes));
        }
        let at_start = Label {
            place: label.place.at_start(),
            ..label.clone()
        };
        let number = bytes.and_then(|bytes| number(&at_start, &bytes, names));
        let number = number.filter(|_| !label.place.ty.is_text());
        let (name, sign) = (&label.name, operator.sign);
        let number =
            number.with_context(|| format!("`{sign}` compares numbers, and `{name}` has none"))?;
        Ok(Self::Number(number))
    }
}

/// The number that a label shows, or that stands behind its name.
fn number(label: &Label, key: &[u8], names: &dyn Names) -> Option<i128> {
    let shown = names.of(label, key);
    let number = shown.integer().or_else(|| parse_number(&shown.to_string()));
    number.or_else(|| label.place.decode(key).integer())
}

/// The bytes of a label, at its own size, that this text stands for; `None` for
/// what may get that name later. An error says why nothing can have it.
fn typed(label: &Label, text: &str, names: &dyn Names) -> Result<Option<Vec<u8>>> {
    let place = label.place.at_start();
    let tags = Tags {
        decoder: label.decoder.clone(),
        ..Tags::default()
    };
    let mut bytes = vec![0; place.ty.size];
    match parse(&place, &tags, text, LeftOut::Refused, names, &mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(_) if names.comes_and_goes(label) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
