"""One job: config, ranks, folder, trackers, pipeline."""
