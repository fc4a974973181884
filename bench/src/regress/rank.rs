//! How often chance alone puts one sample so far beside another: the exact rank-sum test.
//!
//! It asks nothing of the values' distribution, and one value that is far off counts no more than the farthest of all. The test is
//! that of Mann and Whitney ("On a test of whether one of two random variables is stochastically larger than the other", 1947);
//! its exact distribution, ties included, is counted as Streitberg and Röhmel do ("Exact distributions for permutation and rank
//! tests", 1986). No random numbers are drawn.

use crate::stats::permille;

/// More values of one sample are put into blocks.
const MOST: usize = 24;
/// So many blocks.
const BLOCKS: usize = 12;

/// Values before and after.
pub(super) struct Samples {
    pub(super) before: Vec<f64>,
    pub(super) after: Vec<f64>,
}

/// The values that were measured, or where these are many, the medians of blocks of neighbours: what slows a machine down for
/// a second slows many events down, which then count as one.
pub(super) fn blocks(values: &[f64]) -> Vec<f64> {
    let measured: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    if measured.len() <= MOST {
        return measured;
    }
    let length = measured.len().div_ceil(BLOCKS);
    measured.chunks(length).filter_map(|block| permille(block, 500)).collect()
}

impl Samples {
    /// Whether there are enough of them for a chance below this.
    pub(super) fn can_tell(&self, level: f64) -> bool {
        let (these, all) = (self.before.len(), self.before.len() + self.after.len());
        these > 0 && these < all && 2.0 / choose(all, these) < level
    }

    /// How often chance gives two samples of the same that lie at least so far apart, to either side.
    pub(super) fn chance(&self) -> f64 {
        let ranks = doubled_ranks(&self.before, &self.after);
        let (before, after) = ranks.split_at(self.before.len());
        let ways = ways(&ranks, after.len());
        let sum: usize = after.iter().sum();
        let all: f64 = ways.iter().sum();
        let (below, above): (f64, f64) = (ways[..=sum].iter().sum(), ways[sum..].iter().sum());
        if before.is_empty() || after.is_empty() { 1.0 } else { (2.0 * below.min(above) / all).min(1.0) }
    }
}

/// Twice the rank of each value among all: equal ones share the middle of their ranks, which may be a half.
fn doubled_ranks(before: &[f64], after: &[f64]) -> Vec<usize> {
    let all = || before.iter().chain(after);
    let rank = |value: &f64| {
        let below = all().filter(|other| *other < value).count();
        let equal = all().filter(|other| *other == value).count();
        2 * below + equal + 1
    };
    all().map(rank).collect()
}

/// In how many ways so many of the ranks have each sum.
fn ways(ranks: &[usize], choose: usize) -> Vec<f64> {
    let most: usize = ranks.iter().sum();
    let mut ways = vec![vec![0.0; most + 1]; choose + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        // Downwards, so that each rank is taken once.
        for taken in (1..=choose).rev() {
            let (fewer, these) = ways.split_at_mut(taken);
            for sum in *rank..=most {
                these[0][sum] += fewer[taken - 1][sum - rank];
            }
        }
    }
    ways.swap_remove(choose)
}

/// The greatest chance that counts as none, so that of all that is found no more than the share `rate` is chance's: where nothing changed,
/// that is how often anything is found at all. Of so many tests, `chances` has those that may count. The procedure is
/// Benjamini's and Hochberg's ("Controlling the false discovery rate", 1995).
pub(super) fn false_discoveries(mut chances: Vec<f64>, tests: usize, rate: f64) -> f64 {
    chances.sort_by(f64::total_cmp);
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let limit = |rank: usize| rate * number(rank) / number(tests.max(1));
    let counting = (1..).zip(&chances).filter(|(rank, chance)| **chance <= limit(*rank));
    counting.last().map_or(0.0, |(_, chance)| *chance)
}

/// How many ways there are to choose so many of all.
fn choose(all: usize, some: usize) -> f64 {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    (0..some).map(|at| number(all - at) / number(some - at)).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(before: &[f64], after: &[f64]) -> Samples {
        Samples { before: before.to_vec(), after: after.to_vec() }
    }

    #[test]
    fn the_chance_is_that_of_published_tables() {
        let apart = samples(&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0]);
        assert!((apart.chance() - 2.0 / 252.0).abs() < 1e-12, "{}", apart.chance());
        // Twenty sums of two of five: of 3, 4, 5 and 5 there is one way, one, and two.
        let near = samples(&[1.0, 3.0, 5.0], &[2.0, 4.0]);
        assert!((near.chance() - 1.0).abs() < 1e-12, "{}", near.chance());
    }

    #[test]
    fn equal_values_are_no_difference_and_too_few_tell_nothing() {
        let equal = samples(&[7.0; 9], &[7.0; 9]);
        assert!((equal.chance() - 1.0).abs() < 1e-12);
        assert!(equal.can_tell(0.001) && !samples(&[1.0], &[2.0]).can_tell(0.5));
        assert!(!samples(&[], &[2.0, 3.0]).can_tell(0.9));
    }

    #[test]
    fn many_small_chances_support_each_other() {
        assert!((false_discoveries(vec![0.03, 0.001, 0.9], 3, 0.05) - 0.03).abs() < 1e-12);
        assert!((false_discoveries(vec![0.03, 0.001], 20, 0.05) - 0.001).abs() < 1e-12);
        assert!(false_discoveries(vec![0.03, 0.01], 20, 0.05).abs() < 1e-12);
    }

    #[test]
    fn many_values_become_blocks_of_neighbours() {
        let values: Vec<f64> = (0..300).map(f64::from).collect();
        let blocks = blocks(&values);
        assert_eq!((blocks.len(), blocks[0]), (12, 12.0));
    }
}
