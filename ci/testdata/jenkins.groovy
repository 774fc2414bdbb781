// Runs a declarative Jenkinsfile as Jenkins does, as far as ours needs it: groovy jenkins.groovy JENKINSFILE WORKSPACE ARCHIVE [NAME=VALUE...]
//
// Sections, steps and their arguments are those of the plugins that ci/jenkins/Jenkinsfile names; whatever else a file asks for ends the build
// as a mistake of the file. The exit status is 0 for SUCCESS, 1 for FAILURE and UNSTABLE, 143 for ABORTED, 2 for a file that cannot run.
import groovy.io.FileType
import java.nio.file.FileSystems
import java.nio.file.Files
import java.nio.file.Paths
import java.nio.file.StandardCopyOption
import sun.misc.Signal
import sun.misc.SignalHandler

class Aborted extends RuntimeException {}

class Build {
  File workspace, archive
  Map<String, String> given = [:], parameters = [:]
  String result = 'SUCCESS'
  volatile boolean aborted
  volatile Process running

  // Jenkins sends SIGTERM to every process that carries the build's cookie; ours are the descendants of the step's shell.
  void abort() {
    aborted = true
    def process = running
    if (process != null) {
      println 'Sending interrupt signal to process'
      (process.toHandle().descendants().toList() + [process.toHandle()]).each { it.destroy() }
    }
  }

  void worse(String other) {
    def order = ['SUCCESS', 'UNSTABLE', 'FAILURE', 'ABORTED']
    if (order.indexOf(other) > order.indexOf(result)) { result = other }
  }

  // files matches an Ant pattern below the workspace.
  List<File> files(String pattern) {
    def matcher = FileSystems.default.getPathMatcher('glob:' + pattern)
    def found = []
    workspace.eachFileRecurse(FileType.FILES) { file ->
      if (matcher.matches(workspace.toPath().relativize(file.toPath()))) { found << file }
    }
    return found
  }
}

// Strict is what may stand in a block: what has no method here is a mistake of the file.
abstract class Strict {
  Build build

  void within(Closure body, Strict inner) {
    inner.build = build
    body.delegate = inner
    body.resolveStrategy = Closure.DELEGATE_ONLY
    body()
  }

  static void allow(Map arguments, List<String> known) {
    def unknown = arguments.keySet() - known
    if (unknown) { throw new MissingPropertyException("Invalid parameter ${unknown}; known: ${known}") }
  }
}

class Agent extends Strict {
  void label(String name) { println "Running on ${name} in ${build.workspace}" }
}

class Options extends Strict {
  void disableConcurrentBuilds() {}
  void timeout(Map arguments) {
    allow(arguments, ['time', 'unit'])
    java.util.concurrent.TimeUnit.valueOf(arguments.unit as String)
  }
  Object logRotator(Map arguments) { allow(arguments, ['numToKeepStr', 'daysToKeepStr', 'artifactNumToKeepStr', 'artifactDaysToKeepStr']); return arguments }
  void buildDiscarder(Object strategy) {}
}

class Parameters extends Strict {
  void string(Map arguments) {
    allow(arguments, ['name', 'defaultValue', 'description', 'trim'])
    build.parameters[arguments.name as String] = build.given.containsKey(arguments.name) ? build.given[arguments.name] : arguments.defaultValue as String
  }
}

class Steps extends Strict {
  void sh(String script) {
    if (build.aborted) { throw new Aborted() }
    def file = File.createTempFile('durable-', '.sh')
    file.text = script
    def builder = new ProcessBuilder('/bin/sh', '-xe', file.path).directory(build.workspace).redirectErrorStream(true)
    builder.environment().putAll(build.parameters)
    builder.environment().putAll([BUILD_NUMBER: '1', WORKSPACE: build.workspace.path, JENKINS_SERVER_COOKIE: 'durable-1'])
    def process = builder.start()
    process.outputStream.close()
    build.running = process
    process.inputStream.eachLine { println it }
    def code = process.waitFor()
    build.running = null
    file.delete()
    if (build.aborted) { throw new Aborted() }
    if (code != 0) { throw new RuntimeException("script returned exit code ${code}") }
  }
  void echo(String text) { println text }
  void junit(Map arguments) {
    allow(arguments, ['allowEmptyResults', 'testResults', 'keepLongStdio', 'skipPublishingChecks'])
    println 'Recording test results'
    def found = build.files(arguments.testResults as String)
    if (!found && !arguments.allowEmptyResults) { throw new RuntimeException('No test report files were found. Configuration error?') }
    found.each { file ->
      def suites = new XmlSlurper().parse(file)
      def cases = suites.depthFirst().findAll { it.name() == 'testcase' }
      def bad = cases.count { it.failure.size() + it.error.size() > 0 }
      println "Tests: ${cases.size()}, failed: ${bad}"
      if (bad > 0) { build.worse('UNSTABLE') }
    }
  }
  void archiveArtifacts(Map arguments) {
    allow(arguments, ['artifacts', 'allowEmptyArchive', 'fingerprint', 'onlyIfSuccessful', 'excludes'])
    println 'Archiving artifacts'
    def found = build.files(arguments.artifacts as String)
    if (!found && !arguments.allowEmptyArchive) { throw new RuntimeException('No artifacts found that match the file pattern') }
    found.each { file ->
      def to = build.archive.toPath().resolve(build.workspace.toPath().relativize(file.toPath()))
      Files.createDirectories(to.parent)
      Files.copy(file.toPath(), to, StandardCopyOption.REPLACE_EXISTING)
    }
  }
}

class Stage extends Strict {
  void steps(Closure body) {
    try {
      within(body, new Steps())
    } catch (Aborted ignored) {
      println 'Aborted by the server'
      build.worse('ABORTED')
    } catch (MissingMethodException | MissingPropertyException mistake) {
      throw mistake
    } catch (RuntimeException failure) {
      println "ERROR: ${failure.message}"
      build.worse('FAILURE')
    }
  }
}

class Stages extends Strict {
  void stage(String name, Closure body) {
    if (build.result != 'SUCCESS') {
      println "Stage \"${name}\" skipped due to earlier failure(s)"
      return
    }
    println "[Pipeline] stage (${name})"
    within(body, new Stage())
  }
}

class Post extends Strict {
  void section(String name, boolean due, Closure body) {
    if (!due) { return }
    println "[Pipeline] post ${name}"
    try {
      def steps = new Steps()
      build.aborted = false // the steps of post run for an aborted build too
      within(body, steps)
    } catch (MissingMethodException | MissingPropertyException mistake) {
      throw mistake
    } catch (RuntimeException failure) {
      println "ERROR: ${failure.message}"
      build.worse('FAILURE')
    }
  }
  void always(Closure body) { section('always', true, body) }
  void success(Closure body) { section('success', build.result == 'SUCCESS', body) }
  void failure(Closure body) { section('failure', build.result == 'FAILURE', body) }
  void unstable(Closure body) { section('unstable', build.result == 'UNSTABLE', body) }
  void aborted(Closure body) { section('aborted', build.result == 'ABORTED', body) }
}

// Reading collects the sections first: Jenkins checks the whole file, and runs post last wherever it stands.
class Reading extends Strict {
  Map<String, Closure> sections = [:]
  void once(String name, Closure body) {
    if (sections.containsKey(name)) { throw new MissingMethodException("${name} twice", Reading, [] as Object[]) }
    sections[name] = body
  }
  void agent(Closure body) { once('agent', body) }
  void options(Closure body) { once('options', body) }
  void parameters(Closure body) { once('parameters', body) }
  void stages(Closure body) { once('stages', body) }
  void post(Closure body) { once('post', body) }
}

abstract class Declarative extends Script {
  void pipeline(Closure body) {
    Build build = binding.getVariable('build') as Build
    def read = new Reading(build: build)
    read.within(body, read)
    ['agent', 'stages'].each { if (!read.sections[it]) { throw new MissingMethodException("missing section ${it}", Reading, [] as Object[]) } }
    [agent: new Agent(), options: new Options(), parameters: new Parameters(), stages: new Stages(), post: new Post()].each { name, block ->
      if (read.sections[name]) { read.within(read.sections[name], block) }
    }
  }
}

if (args.length < 3) {
  System.err.println 'usage: jenkins.groovy JENKINSFILE WORKSPACE ARCHIVE [NAME=VALUE...]'
  System.exit(2)
}
def build = new Build(workspace: new File(args[1]).canonicalFile, archive: new File(args[2]).canonicalFile)
args.drop(3).each { def (name, value) = it.split('=', 2); build.given[name as String] = value as String }
Signal.handle(new Signal('TERM'), { build.abort() } as SignalHandler)
def configuration = new org.codehaus.groovy.control.CompilerConfiguration(scriptBaseClass: Declarative.name)
try {
  new GroovyShell(getClass().classLoader, new Binding(build: build), configuration).evaluate(new File(args[0]))
} catch (MissingMethodException | MissingPropertyException | org.codehaus.groovy.control.CompilationFailedException mistake) {
  println "WorkflowScript: ${mistake.message}"
  System.exit(2)
}
println "Finished: ${build.result}"
System.exit([SUCCESS: 0, FAILURE: 1, UNSTABLE: 1, ABORTED: 143][build.result])
