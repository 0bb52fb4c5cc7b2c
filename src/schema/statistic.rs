//! Numbers that stand for a histogram: its mean and its quantiles.

use super::histogram::Histogram;
use super::value::Value;

/// A number that stands for a histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Statistic {
    /// Of all observations, exactly.
    Mean,
    /// What this share of the observations does not exceed.
    Quantile(f64),
}

impl Statistic {
    /// Those that every format has, by name.
    pub(crate) const ALL: [(&str, Self); 4] = [
        ("mean", Self::Mean),
        ("p50", Self::Quantile(0.5)),
        ("p90", Self::Quantile(0.9)),
        ("p99", Self::Quantile(0.99)),
    ];

    /// Of these and any other quantile: `p99.9`.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        if name == "mean" {
            return Some(Self::Mean);
        }
        let percent: f64 = name.strip_prefix('p')?.parse().ok()?;
        let is_share = (0.0..=100.0).contains(&percent);
        is_share.then_some(Self::Quantile(percent / 100.0))
    }

    /// Of a histogram; `None` where nothing was observed.
    pub(crate) fn of(self, histogram: &Histogram) -> Option<f64> {
        match self {
            Self::Mean => mean(histogram),
            Self::Quantile(q) => quantile(histogram, q),
        }
    }

    /// For programs: to a thousandth.
    pub(crate) fn value(self, histogram: &Histogram) -> Value<'static> {
        let rounded = |number: f64| (number * 1e3).round() / 1e3;
        self.of(histogram)
            .map(|number| Value::Float(rounded(number)))
            .into()
    }
}

/// The sum is kept modulo 2^64: one that is less than what the buckets hold at
/// the least has no mean.
fn mean(histogram: &Histogram) -> Option<f64> {
    let count = histogram.count();
    let least = |bucket: usize| match bucket {
        0 => 0,
        _ => u128::from(histogram.scale.over(bucket)) + 1,
    };
    let buckets = histogram.buckets.iter().enumerate();
    let least = buckets.map(|(bucket, number)| least(bucket) * u128::from(*number));
    let sum = histogram.sum()?;
    (count > 0 && u128::from(sum) >= least.sum()).then(|| sum as f64 / count as f64)
}

/// As `histogram_quantile` of Prometheus: linear between the edges of the bucket
/// that holds it. The bucket of the greatest observation ends there, if that is
/// known. The last bucket has no upper edge otherwise, so its lower one stands for
/// what is in it. A single observation is known: it is the sum.
fn quantile(histogram: &Histogram, q: f64) -> Option<f64> {
    // 0.07 * 100 is a little more than 7 in binary.
    const ROUNDING: f64 = 1e-12;
    let count = histogram.count();
    let rank = count as f64 * q;
    let mut below = 0.0;
    let filled = |bucket: &(usize, f64)| bucket.1 > 0.0;
    let buckets = histogram.buckets.iter().map(|number| *number as f64);
    for (bucket, number) in buckets.enumerate().filter(filled) {
        if below + number < rank * (1.0 - ROUNDING) {
            below += number;
            continue;
        }
        let (over, edge) = (histogram.scale.over(bucket), histogram.scale.edge(bucket));
        if count == 1 && mean(histogram).is_some() {
            return Some(histogram.sum.min(edge) as f64);
        }
        let edge = match histogram.greatest {
            Some(greatest) if greatest > over => greatest.min(edge),
            _ if bucket + 1 == Histogram::BUCKETS => over,
            _ => edge,
        };
        let share = ((rank - below) / number).clamp(0.0, 1.0);
        return Some(over as f64 + (edge - over) as f64 * share);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::histogram::Scale;

    fn histogram(sum: u64, buckets: &[(usize, u64)]) -> Histogram {
        let mut histogram = Histogram::empty(Scale::Log2);
        histogram.sum = sum;
        for (bucket, number) in buckets {
            histogram.buckets[*bucket] = *number;
        }
        histogram
    }

    fn p(percent: f64, histogram: &Histogram) -> Option<f64> {
        Statistic::Quantile(percent / 100.0).of(histogram)
    }

    #[test]
    fn quantiles_are_interpolated_within_their_bucket() {
        // 99 of up to 1, and one of more than 512 up to 1024.
        let tail = histogram(1099, &[(0, 99), (10, 1)]);
        assert_eq!(p(49.5, &tail), Some(0.5));
        assert_eq!(p(99.0, &tail), Some(1.0));
        assert_eq!(p(99.5, &tail), Some(768.0));
        assert_eq!(p(100.0, &tail), Some(1024.0));
        // Twenty sleeps of 9.2 ms, between 2^23 and 2^24 ns.
        let sleeps = histogram(20 * 9_200_000, &[(24, 20)]);
        let edge = f64::from(1 << 23);
        assert_eq!(p(0.0, &sleeps), Some(edge));
        assert_eq!(p(50.0, &sleeps), Some(1.5 * edge));
        assert_eq!(p(90.0, &sleeps), Some(1.9 * edge));
        assert_eq!(p(100.0, &sleeps), Some(2.0 * edge));
        // Empty buckets hold no quantile.
        let apart = histogram(5002, &[(1, 1), (13, 1)]);
        assert_eq!(p(0.0, &apart), Some(1.0));
        assert_eq!(p(50.0, &apart), Some(2.0));
        assert_eq!(p(75.0, &apart), Some(4096.0 + 2048.0));
    }

    #[test]
    fn a_rank_that_binary_rounds_up_stays_in_its_bucket() {
        for (low, high, percent) in [(7, 93, 7.0), (55, 45, 55.0)] {
            let both = histogram(300, &[(1, low), (5, high)]);
            assert_eq!(p(percent, &both), Some(2.0), "{percent}");
        }
    }

    #[test]
    fn a_single_observation_is_its_own_quantile() {
        let flush = histogram(46_400_000, &[(26, 1)]);
        for percent in [0.0, 50.0, 90.0, 99.0, 100.0] {
            assert_eq!(p(percent, &flush), Some(46_400_000.0));
        }
        assert_eq!(Statistic::Mean.of(&flush), Some(46_400_000.0));
        assert_eq!(p(50.0, &histogram(0, &[(0, 1)])), Some(0.0));
        // A sum that another observation has reached first stays out.
        assert_eq!(p(50.0, &histogram(1000, &[(3, 1)])), Some(8.0));
        assert_eq!(p(50.0, &histogram(1, &[(3, 1)])), Some(6.0));
    }

    #[test]
    fn the_last_bucket_is_its_lower_edge() {
        let many = histogram(0, &[(61, 1), (63, 3)]);
        assert_eq!(p(25.0, &many), Some((1u64 << 61) as f64));
        assert_eq!(p(99.0, &many), Some((1u64 << 62) as f64));
    }

    #[test]
    fn the_greatest_observation_ends_its_bucket() {
        // Of 513 to 1024, and of up to 1024; 600 is the greatest.
        let mut tail = histogram(1099, &[(0, 99), (10, 1)]);
        tail.greatest = Some(600);
        assert_eq!(p(99.5, &tail), Some(556.0));
        assert_eq!(p(100.0, &tail), Some(600.0));
        assert_eq!(p(49.5, &tail), Some(0.5));
        let mut many = histogram(0, &[(61, 1), (63, 3)]);
        many.greatest = Some((1 << 62) + (1 << 61));
        assert_eq!(p(100.0, &many), Some(((1u64 << 62) + (1 << 61)) as f64));
        assert_eq!(p(25.0, &many), Some((1u64 << 61) as f64));
        // One of an earlier interval, in another bucket.
        tail.greatest = Some(1 << 20);
        assert_eq!(p(100.0, &tail), Some(1024.0));
    }

    #[test]
    fn linear_buckets_end_at_multiples_of_the_step() {
        let mut depths = histogram(5 * 10, &[(0, 1), (2, 8), (3, 1)]);
        depths.scale = Scale::Linear(5);
        // 0, once; 6 to 10, eight times; 11 to 15, once.
        assert_eq!(p(10.0, &depths), Some(0.0));
        assert_eq!(p(50.0, &depths), Some(7.5));
        assert_eq!(p(90.0, &depths), Some(10.0));
        assert_eq!(p(100.0, &depths), Some(15.0));
        assert_eq!(Statistic::Mean.of(&depths), None);
        depths.sum = 90;
        assert_eq!(Statistic::Mean.of(&depths), Some(9.0));
        // What is beyond all edges.
        depths.buckets[63] = 90;
        assert_eq!(p(99.0, &depths), Some(310.0));
    }

    #[test]
    fn nothing_observed_has_no_statistics() {
        for (_, statistic) in Statistic::ALL {
            assert_eq!(statistic.of(&histogram(7, &[])), None);
            assert_eq!(statistic.value(&histogram(7, &[])), Value::Null);
        }
    }

    #[test]
    fn a_sum_that_wrapped_has_no_mean() {
        // At the least 10 * 5, or 1 << 62 and one more, five times.
        let mean = |sum, buckets: &[_]| Statistic::Mean.of(&histogram(sum, buckets));
        assert_eq!(mean(49, &[(3, 10)]), None);
        assert_eq!(mean(51, &[(3, 10)]), Some(5.1));
        assert_eq!(mean(2, &[(63, 5)]), None);
        let third = Statistic::Mean.value(&histogram(10, &[(0, 1), (3, 2)]));
        assert_eq!(third, Value::Float(3.333));
    }

    #[test]
    fn statistics_have_names() {
        for (name, statistic) in Statistic::ALL {
            assert_eq!(Statistic::by_name(name), Some(statistic));
        }
        assert_eq!(
            Statistic::by_name("p12.5"),
            Some(Statistic::Quantile(0.125))
        );
        for name in ["p101", "p-1", "pNaN", "p", "", "means", "50"] {
            assert_eq!(Statistic::by_name(name), None, "{name}");
        }
    }
}
