# Wrong values, each refused with the variable's own words before anything is started.

variables {
  name = "demo"
}

run "name_empty" {
  command = plan

  variables {
    name = ""
  }

  expect_failures = [var.name]
}

run "name_capital" {
  command = plan

  variables {
    name = "Demo"
  }

  expect_failures = [var.name]
}

run "name_slash" {
  command = plan

  variables {
    name = "../demo"
  }

  expect_failures = [var.name]
}

run "name_ends_with_hyphen" {
  command = plan

  variables {
    name = "demo-"
  }

  expect_failures = [var.name]
}

run "name_too_long" {
  command = plan

  variables {
    name = "a123456789012345678901234567890"
  }

  expect_failures = [var.name]
}

run "workers_negative" {
  command = plan

  variables {
    number_of_workers = -1
  }

  expect_failures = [var.number_of_workers]
}

run "workers_too_many" {
  command = plan

  variables {
    number_of_workers = 65
  }

  expect_failures = [var.number_of_workers]
}

run "workers_fraction" {
  command = plan

  variables {
    number_of_workers = 1.5
  }

  expect_failures = [var.number_of_workers]
}

run "dependency_empty" {
  command = plan

  variables {
    dependencies = ["numpy", " "]
  }

  expect_failures = [var.dependencies]
}

run "python_version_of_two" {
  command = plan

  variables {
    python_version = "2.7"
  }

  expect_failures = [var.python_version]
}

run "python_version_with_option" {
  command = plan

  variables {
    python_version = "3.12 --x"
  }

  expect_failures = [var.python_version]
}

run "ray_version_too_old" {
  command = plan

  variables {
    ray_version = "2.53.9"
  }

  expect_failures = [var.ray_version]
}

run "ray_version_major_only" {
  command = plan

  variables {
    ray_version = "2"
  }

  expect_failures = [var.ray_version]
}

run "ray_version_words" {
  command = plan

  variables {
    ray_version = "latest"
  }

  expect_failures = [var.ray_version]
}

run "ray_version_range" {
  command = plan

  variables {
    ray_version = "2.60.0,>2"
  }

  expect_failures = [var.ray_version]
}

run "daft_version_words" {
  command = plan

  variables {
    daft_version = "newest"
  }

  expect_failures = [var.daft_version]
}

run "daft_version_range" {
  command = plan

  variables {
    daft_version = ">=0.7"
  }

  expect_failures = [var.daft_version]
}

run "setup_command_empty" {
  command = plan

  variables {
    setup_commands = [""]
  }

  expect_failures = [var.setup_commands]
}

run "python_empty" {
  command = plan

  variables {
    python = " "
  }

  expect_failures = [var.python]
}

run "package_index_without_a_scheme" {
  command = plan

  variables {
    package_index = "pypi.example.com"
  }

  expect_failures = [var.package_index]
}

run "package_index_with_a_password" {
  command = plan

  variables {
    package_index = "https://ann:pw@pypi.example.com/simple"
  }

  expect_failures = [var.package_index]
}

run "find_links_relative" {
  command = plan

  variables {
    find_links = "wheels"
  }

  expect_failures = [var.find_links]
}

run "proxy_with_a_password" {
  command = plan

  variables {
    proxy = "http://ann:pw@proxy.example.com"
  }

  expect_failures = [var.proxy]
}
