//! Vectors and targets in memory, as arithmetic wants them.

use std::collections::HashSet;
use std::path::Path;

use genre_model::{EncoderIdentity, GENRES, InputTemplate};
use ndarray::{Array2, Axis};

use crate::Split;
use crate::table_file::TableError;
use crate::vectors_file::{VectorRows, VectorsHeader, VectorsReader};

/// Films with their vectors and labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// TMDB ids, all different.
    pub ids: Vec<u64>,
    /// Each film's part, by its id.
    pub splits: Vec<Split>,
    /// Shape `[films, 20]`: 1 where the film carries the genre of that column in [`GENRES`], else 0.
    pub targets: Array2<f32>,
    /// Shape `[films, dimension]`; finite.
    pub vectors: Array2<f32>,
    /// The encoder that made the vectors.
    pub encoder: EncoderIdentity,
    /// How a film became the text that was encoded.
    pub template: InputTemplate,
    /// SHA-256 over all films of the source.
    pub data_digest: String,
}

impl Vectors {
    /// Reads and verifies a whole file.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let mut reader = VectorsReader::open(path)?;
        let mut all = VectorRows::default();
        while let Some(mut rows) = reader.next_rows()? {
            all.append(&mut rows);
        }
        let mut seen = HashSet::with_capacity(all.ids.len());
        if let Some(twin) = all.ids.iter().find(|id| !seen.insert(**id)) {
            return Err(TableError::invalid(
                path,
                format!("expected each film once, found film {twin} twice"),
            ));
        }
        if all.ids.is_empty() {
            return Err(TableError::invalid(path, "expected films, found none"));
        }
        Ok(Self::from_rows(all, reader.header().clone()))
    }

    /// Puts rows in matrices.
    ///
    /// # Panics
    /// If there are not `header.dimension` floats for each film.
    #[must_use]
    pub fn from_rows(rows: VectorRows, header: VectorsHeader) -> Self {
        let films = rows.ids.len();
        let has = |(film, genre): (usize, usize)| f32::from(u8::from(rows.genres[film].contains(genre)));
        Self {
            splits: rows.ids.iter().map(|id| Split::of(*id)).collect(),
            targets: Array2::from_shape_fn((films, GENRES.len()), has),
            vectors: Array2::from_shape_vec((films, header.dimension), rows.values)
                .expect("one vector of the header's dimension for each film"),
            ids: rows.ids,
            encoder: header.encoder,
            template: header.template,
            data_digest: header.data_digest,
        }
    }

    /// The films of one part, in the same order; possibly none.
    #[must_use]
    pub fn subset(&self, split: Split) -> Self {
        let rows: Vec<usize> = (0..self.len()).filter(|row| self.splits[*row] == split).collect();
        Self {
            ids: rows.iter().map(|row| self.ids[*row]).collect(),
            splits: vec![split; rows.len()],
            targets: self.targets.select(Axis(0), &rows),
            vectors: self.vectors.select(Axis(0), &rows),
            encoder: self.encoder.clone(),
            template: self.template.clone(),
            data_digest: self.data_digest.clone(),
        }
    }

    /// Number of films.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no film.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Floats in a vector.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.vectors.ncols()
    }
}
