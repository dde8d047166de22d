"""Training data that is written to an object store."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from feastrs import errors
from testbed.plain import AT, plain
from testbed.s3 import BUCKET, S3Server


@pytest.fixture
def s3(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    return s3


def test_what_is_written_to_s3_is_what_is_written_to_disk(s3: S3Server, tmp_path: Path) -> None:
    labels = pd.DataFrame({"driver_id": [0, 1, 2], "event_timestamp": [pd.Timestamp(AT)] * 3})
    store = plain(tmp_path / "plain").open(tmp_path / "repo").ours()
    job = store.get_historical_features(labels, ["v:x"])
    on_disk = pq.read_table(job.to_parquet(str(tmp_path / "here.parquet")))

    file = job.to_parquet(f"s3://{BUCKET}/a/file.parquet")
    [part] = job.to_remote_storage(f"s3://{BUCKET}/folder/")

    assert file == f"s3://{BUCKET}/a/file.parquet"
    assert part.startswith(f"s3://{BUCKET}/folder/")
    for url in (file, part):
        key = url.removeprefix(f"s3://{BUCKET}/")
        body = s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert pq.read_table(io.BytesIO(body)).equals(on_disk)
    with pytest.raises(errors.SavedDatasetLocationAlreadyExists, match=r"a/file\.parquet"):
        job.to_parquet(file)
    assert job.to_parquet(file, allow_overwrite=True) == file
