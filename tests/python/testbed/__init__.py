"""What the tests stand on: Redis servers, Feast repos, doors, dumps of stores."""
