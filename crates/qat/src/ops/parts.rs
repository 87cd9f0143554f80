//! Parts of a tensor, on all threads or, where there is only one, without waking any.

use rayon::iter::IndexedParallelIterator;
use rayon::iter::plumbing::{Producer, ProducerCallback};
use rayon::prelude::*;

/// Calls `f` with every part.
pub(super) fn for_parts<I: IndexedParallelIterator>(parts: I, f: impl Fn(I::Item) + Sync + Send) {
    if parts.len() > 1 {
        parts.for_each(f);
    } else {
        parts.with_producer(Here(f));
    }
}

/// What `f` gives for each part, in order.
pub(super) fn map_parts<I: IndexedParallelIterator, R: Send>(parts: I, f: impl Fn(I::Item) -> R + Sync + Send) -> Vec<R> {
    if parts.len() > 1 {
        return parts.map(f).collect();
    }
    let mut results = Vec::new();
    parts.with_producer(Here(|part| results.push(f(part))));
    results
}

/// Calls a function on the calling thread.
struct Here<F>(F);

impl<T, F: FnMut(T)> ProducerCallback<T> for Here<F> {
    type Output = ();

    fn callback<P: Producer<Item = T>>(self, producer: P) {
        producer.into_iter().for_each(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_stays_on_the_calling_thread_and_many_keep_their_order() {
        let numbers: Vec<usize> = (0..1000).collect();
        let here = std::thread::current().id();
        for length in [0, 1, 10] {
            let parts = map_parts(numbers[..length].par_chunks(10), |part| (part.to_vec(), std::thread::current().id()));
            assert_eq!(parts.iter().map(|(part, _)| part.len()).sum::<usize>(), length);
            assert!(parts.iter().all(|(_, thread)| *thread == here));
        }
        let sums = map_parts(numbers.par_chunks(10), |part| part[0]);
        assert_eq!(sums, (0..1000).step_by(10).collect::<Vec<_>>());
        let mut copies = vec![0; 1000];
        for length in [0, 7, 1000] {
            for_parts(copies[..length].par_chunks_mut(10).zip(numbers.par_chunks(10)), |(to, from)| {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            });
        }
        assert!(copies.iter().enumerate().all(|(i, copy)| *copy == i * if i < 7 { 2 } else { 1 }));
    }
}
