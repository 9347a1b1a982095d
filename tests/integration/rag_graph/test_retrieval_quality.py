"""Retrieval quality with the real model, on XQuAD when it is there."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest

from rag_graph.evals import datasets, retrieval
from rag_graph.settings import RagSettings
from tests.support.processes import ROOT

XQUAD = ROOT.parent / "shared/data/xquad/xquad.en.json"


@pytest.mark.skipif(not XQUAD.exists(), reason=f"{XQUAD} is not there: XQuAD is not redistributed")
async def test_hybrid_search_holds_its_quality_on_xquad(tmp_path: Path) -> None:
    settings = RagSettings(store_uri=str(tmp_path), cache_dir=tmp_path)
    data = datasets.load(XQUAD)
    run = await retrieval.run(
        data, *await retrieval.open_models(settings), settings, lambda *_: None
    )
    hybrid, dense, bm25 = (
        {measure: mean(values.values()) for measure, values in run.methods[name].scores.items()}
        for name in ("hybrid", "dense", "bm25")
    )
    assert hybrid["ndcg_at_10"] >= 0.968
    assert hybrid["recall_at_5"] >= 0.992
    for measure in hybrid:
        assert hybrid[measure] >= max(dense[measure], bm25[measure]) - 0.005
