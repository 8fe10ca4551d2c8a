"""What happens before anything expensive runs: the data set."""

from __future__ import annotations

from clif_exp.artifacts.store import ArtifactStore
from clif_exp.concepts.reading import read_concept_set
from clif_exp.concepts.settings import CAST
from clif_exp.runs.preparation import materialise_dataset
from support import settings


def test_a_data_set_without_a_size_is_the_whole_cast(tmp_path):
    dataset = materialise_dataset(ArtifactStore(tmp_path), settings("dataset", size=None))
    assert len(read_concept_set(dataset.path, size=None).concepts) == CAST
