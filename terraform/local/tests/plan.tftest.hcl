# Nothing is started here: every run plans.

variables {
  name = "demo"
}

run "defaults" {
  command = plan

  assert {
    condition     = length(terraform_data.worker) == 2
    error_message = "Two workers are the default."
  }

  assert {
    condition     = terraform_data.environment.triggers_replace.requirements == ["ray[default]>=2.54", "daft[ray]>=0.7"]
    error_message = "With no versions given, Ray and Daft have their lower bounds."
  }

  assert {
    condition = [
      output.name, output.provider, output.region, output.head_id, output.head_address, output.head_private_address,
      output.number_of_workers, output.worker_group
    ] == ["demo", "local", "local", "demo-head", "127.0.0.1", "127.0.0.1", 2, "demo-worker"]
    error_message = "The outputs are those of the aws module."
  }

  assert {
    condition = alltrue([
      for value in [
        output.ssh_user, output.ssh_key_name, output.image_id, output.instance_type, output.zone, output.secret_name
      ] : value == null
    ])
    error_message = "What a local cluster does not have is null."
  }
}

run "everything_given" {
  command = plan

  variables {
    number_of_workers = 0
    dependencies      = ["numpy>=2", "a \"quoted\" $${requirement} %%{if}"]
    python_version    = "3.12"
    ray_version       = "2.60.0"
    daft_version      = "0.7.26"
    setup_commands    = ["echo 'it is' \"$HOME\"\nexit 0"]
    python            = "/opt/with space/python"
    package_index     = "https://pypi.example.com/simple"
    find_links        = "/opt/wheels"
    proxy             = "http://proxy.example.com:3128"
  }

  assert {
    condition     = length(terraform_data.worker) == 0
    error_message = "A cluster may be its head alone."
  }

  assert {
    condition = jsonencode(terraform_data.environment.triggers_replace) == jsonencode({
      python_version = "3.12"
      requirements = [
        "ray[default]==2.60.0", "daft[ray]==0.7.26", "numpy>=2", "a \"quoted\" $${requirement} %%{if}"
      ]
      setup_commands = ["echo 'it is' \"$HOME\"\nexit 0"]
      sources = {
        UV_DEFAULT_INDEX = "https://pypi.example.com/simple"
        PIP_INDEX_URL    = "https://pypi.example.com/simple"
        UV_FIND_LINKS    = "/opt/wheels"
        PIP_FIND_LINKS   = "/opt/wheels"
        HTTP_PROXY       = "http://proxy.example.com:3128"
        HTTPS_PROXY      = "http://proxy.example.com:3128"
      }
    })
    error_message = "What is asked for reaches the environment unchanged, and the interpreter is no part of it."
  }
}

run "most_workers" {
  command = plan

  variables {
    number_of_workers = 64
  }

  assert {
    condition     = length(terraform_data.worker) == 64
    error_message = "64 workers are allowed."
  }
}

run "wheels_alone" {
  command = plan

  variables {
    name       = "demo"
    find_links = "/opt/wheels"
  }

  assert {
    condition = jsonencode(terraform_data.environment.triggers_replace.sources) == jsonencode({
      UV_FIND_LINKS  = "/opt/wheels"
      PIP_FIND_LINKS = "/opt/wheels"
      UV_NO_INDEX    = "1"
      PIP_NO_INDEX   = "1"
    })
    error_message = "Wheels alone mean no index."
  }
}
